//! Runs the suite natively, on the adapter that the platform prefers, a test a case.

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // One device at a time: software adapters take all cores as it is.
    arguments.test_threads = Some(1);
    let trials = helium_suite::cases()
        .into_iter()
        .map(|case| {
            let run = case.run;
            let name = case.name.clone();
            Trial::test(case.name, move || {
                pollster::block_on(run()).map_err(Failed::from)?;
                if let Some(why) = helium_suite::take_left_out() {
                    println!("{name} was left out: {why}");
                }
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
