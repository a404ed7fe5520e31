// A beginning worth continuing in each of the 24 languages, under the language's own name. Data only.

/** BCP 47 tag, the language's name for itself, an opening. */
export const OPENINGS = [
  ['bg', 'Български', 'Когато последният влак напусна гарата, старият часовникар'],
  ['cs', 'Čeština', 'Toho rána ležela nad Vltavou mlha tak hustá, že převozník'],
  ['da', 'Dansk', 'Hver aften, når fyret blev tændt, gik den gamle skipper ned til'],
  ['de', 'Deutsch', 'Das Rezept meiner Großmutter für Apfelkuchen beginnt so:'],
  ['et', 'Eesti', 'Kui jää lõpuks lahele kandma hakkas, läksid lapsed'],
  ['el', 'Ελληνικά', 'Το μικρό νησί είχε μόνο έναν δρόμο, και στην άκρη του'],
  ['en', 'English', 'The old lighthouse keeper had one rule, and he had kept it for forty years:'],
  ['es', 'Español', 'En la última casa del pueblo vivía una mujer que coleccionaba'],
  ['fr', 'Français', 'Il était une fois, dans un village au bord de la mer,'],
  ['ga', 'Gaeilge', 'Fadó fadó, nuair a bhí an saol níos ciúine, bhí seanbhean ina cónaí'],
  ['hr', 'Hrvatski', 'Na kraju otoka, gdje cesta prestaje, stajala je kuća u kojoj'],
  ['it', 'Italiano', 'Ogni domenica mattina, prima che la piazza si svegliasse, il fornaio'],
  ['lv', 'Latviešu', 'Jāņu naktī, kad ugunskuri jau dega pa visiem kalniem,'],
  ['lt', 'Lietuvių', 'Kartą, kai gintaras dar gulėjo jūros dugne, žvejo duktė'],
  ['hu', 'Magyar', 'Azon az estén, amikor a Duna először fagyott be, a révész'],
  ['mt', 'Malti', 'Darba, f’raħal ċkejken ħdejn il-baħar, kien hemm sajjied li'],
  ['nl', 'Nederlands', 'Achter de dijk, waar de wind nooit ging liggen, woonde een molenaar die'],
  ['pl', 'Polski', 'Najpiękniejszy dzień tamtego lata zaczął się od deszczu.'],
  ['pt', 'Português', 'Quando o elétrico virou a esquina, ela reparou que no banco da frente'],
  ['ro', 'Română', 'A fost odată ca niciodată, într-un sat de la poalele munților,'],
  ['sk', 'Slovenčina', 'Pod Tatrami, kde zima trvá pol roka, žil včelár, ktorý'],
  ['sl', 'Slovenščina', 'Na robu gozda, tik nad Soškim jezom, je stara kovačica'],
  ['fi', 'Suomi', 'Järven rannalla oli talo, jonka ikkunassa paloi valo joka yö, vaikka'],
  ['sv', 'Svenska', 'Det var den ljusaste natten på året, och ingen i byn kunde'],
];
