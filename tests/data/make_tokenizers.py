"""Writes tests/data/tokenizers: small vocabularies of every kind, and what the reference tokenizers make of texts.

What enters is only the text below; what leaves is deterministic, but for the versions of the packages:

    python3 -m venv /tmp/tok && /tmp/tok/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0
    /tmp/tok/bin/python tests/data/make_tokenizers.py

expected.json holds, for each vocabulary, the ids of every text (null where the reference does something else on
purpose, see `comparable`), and the texts of random ids. References: `tokenizers` for Helium's pipeline and byte-level
BPE, `sentencepiece` for SentencePiece's models.
"""

import io
import json
import pathlib
import random

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).parent / "tokenizers"

# Two sentences to train on and one to test with, in each of the 24 languages.
LANGUAGES = {
    "bg": ("Реката тече бавно край старата мелница, а вечерта децата се прибират с мокри обувки.",
           "Когато дойде зимата, четем дълги истории край огъня и чакаме снега.", "Днес е хубав ден да научиш нещо ново."),
    "cs": ("Řeka teče pomalu kolem starého mlýna a večer se děti vracejí domů s mokrými botami.",
           "Když přijde zima, čteme u ohně dlouhé příběhy a čekáme na sníh.", "Dnes je dobrý den naučit se něco nového."),
    "da": ("Floden løber langsomt forbi den gamle mølle, og om aftenen kommer børnene hjem med våde sko.",
           "Når vinteren kommer, læser vi lange historier ved ilden og venter på sneen.", "I dag er en god dag at lære noget nyt."),
    "de": ("Der Fluss fließt langsam an der alten Mühle vorbei, und am Abend kommen die Kinder mit nassen Schuhen heim.",
           "Wenn der Winter kommt, lesen wir am Feuer lange Geschichten und warten auf den Schnee.", "Heute ist ein guter Tag, um etwas Neues zu lernen."),
    "el": ("Το ποτάμι κυλά αργά δίπλα στον παλιό μύλο και το βράδυ τα παιδιά γυρίζουν σπίτι με βρεγμένα παπούτσια.",
           "Όταν έρχεται ο χειμώνας, διαβάζουμε μεγάλες ιστορίες δίπλα στη φωτιά και περιμένουμε το χιόνι.", "Σήμερα είναι μια καλή μέρα για να μάθεις κάτι νέο."),
    "en": ("The river flows slowly past the old mill, and in the evening the children come home with wet shoes.",
           "When winter comes we read long stories by the fire and wait for the snow.", "Today is a good day to learn something new."),
    "es": ("El río pasa despacio junto al viejo molino y por la tarde los niños vuelven a casa con los zapatos mojados.",
           "Cuando llega el invierno leemos largas historias junto al fuego y esperamos la nieve.", "¿Hoy es un buen día para aprender algo nuevo? ¡Sí, señor!"),
    "et": ("Jõgi voolab aeglaselt vana veski juurest mööda ja õhtul tulevad lapsed märgade kingadega koju.",
           "Kui tuleb talv, loeme tule ääres pikki lugusid ja ootame lund.", "Täna on hea päev, et midagi uut õppida."),
    "fi": ("Joki virtaa hitaasti vanhan myllyn ohi, ja illalla lapset tulevat kotiin märissä kengissä.",
           "Kun talvi tulee, luemme tulen ääressä pitkiä tarinoita ja odotamme lunta.", "Tänään on hyvä päivä oppia jotain uutta."),
    "fr": ("La rivière coule lentement près du vieux moulin et le soir les enfants rentrent avec des chaussures mouillées.",
           "Quand vient l’hiver, nous lisons de longues histoires au coin du feu et nous attendons la neige.", "Aujourd’hui, c’est un bon jour pour apprendre où l’été s’en va."),
    "ga": ("Sníonn an abhainn go mall thar an seanmhuileann, agus tráthnóna tagann na páistí abhaile le bróga fliucha.",
           "Nuair a thagann an geimhreadh léimid scéalta fada cois tine agus fanaimid leis an sneachta.", "Is maith an lá inniu chun rud nua a fhoghlaim."),
    "hr": ("Rijeka polako teče pokraj starog mlina, a navečer se djeca vraćaju kući u mokrim cipelama.",
           "Kad dođe zima, čitamo duge priče kraj vatre i čekamo snijeg.", "Danas je dobar dan da naučiš nešto novo."),
    "hu": ("A folyó lassan folyik a régi malom mellett, és este a gyerekek vizes cipőben jönnek haza.",
           "Amikor eljön a tél, hosszú történeteket olvasunk a tűznél, és várjuk a havat.", "Ma jó nap van arra, hogy valami újat tanuljunk."),
    "it": ("Il fiume scorre lento accanto al vecchio mulino e la sera i bambini tornano a casa con le scarpe bagnate.",
           "Quando arriva l'inverno leggiamo lunghe storie accanto al fuoco e aspettiamo la neve.", "Oggi è un buon giorno per imparare qualcosa di nuovo."),
    "lt": ("Upė lėtai teka pro seną malūną, o vakare vaikai grįžta namo šlapiais batais.",
           "Kai ateina žiema, prie ugnies skaitome ilgas istorijas ir laukiame sniego.", "Šiandien gera diena išmokti ką nors naujo."),
    "lv": ("Upe lēni tek garām vecajām dzirnavām, un vakarā bērni nāk mājās ar slapjām kurpēm.",
           "Kad atnāk ziema, mēs pie uguns lasām garus stāstus un gaidām sniegu.", "Šodien ir laba diena, lai iemācītos ko jaunu."),
    "mt": ("Ix-xmara tgħaddi bil-mod ħdejn il-mitħna l-qadima, u filgħaxija t-tfal jiġu d-dar biż-żraben imxarrba.",
           "Meta tasal ix-xitwa naqraw stejjer twal ħdejn in-nar u nistennew is-silġ.", "Illum hija ġurnata tajba biex titgħallem xi ħaġa ġdida."),
    "nl": ("De rivier stroomt langzaam langs de oude molen en 's avonds komen de kinderen met natte schoenen thuis.",
           "Als de winter komt lezen we lange verhalen bij het vuur en wachten we op de sneeuw.", "Vandaag is een goede dag om iets nieuws te leren."),
    "pl": ("Rzeka płynie powoli obok starego młyna, a wieczorem dzieci wracają do domu w mokrych butach.",
           "Kiedy przychodzi zima, czytamy przy ogniu długie opowieści i czekamy na śnieg.", "Dziś jest dobry dzień, żeby nauczyć się czegoś nowego."),
    "pt": ("O rio corre devagar junto ao velho moinho e à noite as crianças voltam para casa com os sapatos molhados.",
           "Quando chega o inverno lemos longas histórias ao pé do fogo e esperamos a neve.", "Hoje é um bom dia para aprender uma lição nova, não é?"),
    "ro": ("Râul curge încet pe lângă moara veche, iar seara copiii vin acasă cu pantofii uzi.",
           "Când vine iarna citim povești lungi lângă foc și așteptăm zăpada.", "Astăzi este o zi bună ca să înveți ceva nou."),
    "sk": ("Rieka tečie pomaly okolo starého mlyna a večer sa deti vracajú domov v mokrých topánkach.",
           "Keď príde zima, čítame pri ohni dlhé príbehy a čakáme na sneh.", "Dnes je dobrý deň naučiť sa niečo nové, ľúbezný svet."),
    "sl": ("Reka počasi teče mimo starega mlina, zvečer pa se otroci vračajo domov z mokrimi čevlji.",
           "Ko pride zima, ob ognju beremo dolge zgodbe in čakamo na sneg.", "Danes je dober dan, da se naučiš nekaj novega."),
    "sv": ("Floden rinner sakta förbi den gamla kvarnen, och på kvällen kommer barnen hem med våta skor.",
           "När vintern kommer läser vi långa berättelser vid elden och väntar på snön.", "I dag är en bra dag att lära sig något nytt."),
}
TRAIN = [sentence for first, second, _ in LANGUAGES.values() for sentence in (first, second)]
TRAIN += ["def main():\n    return 42\n", "In 1984 there were 365 days; in 2024, 366. It's 3.14, isn't it? We'll see, they've said."]

ODD = [
    "", " ", "  ", "\n", "a", " a", "a ", "a\nb", "\n\n\nIndented:\n    four spaces", "  a  lot   of    spaces     ",
    "trailing newline\n", "line\r\nbreaks\r\n\r\nof Windows\r", "\ttabs\t\tand \t mixed", "zero\u200bwidth\u200djoin\ufeffmark\u2060er",
    "日本語のテキスト、中文文本。한국어 텍스트", "🦀 crab, 👨‍👩‍👧‍👦 family, 👩🏽‍💻 coder, 🇪🇺🇮🇪 flags, ☺️ and 1️⃣",
    "digits 0123456789, 1 000 000.50, ²³½Ⅷ ٣٤", "I'LL don't WE'VE she'd 'tis 's 'ſ", "e\u0301 is é, a\u0300\u0301\u0302 is not",
    "no\u00a0break\u3000ideographic\u2028line\u2029paragraph\u0085next", "\u0000null\u0001\u007f control", "“Quotes”… «guillemets» — dash‑hyphen",
    "aaaaaaaaaaaaaaaaaaaaa ------======== hahahaha ababababa", "def main():\n    if x <= 3 and y != '|':\n\t\treturn $x ** 2  # ^~`\n",
    "Ġ Ċ Ã© letters of the byte alphabet", "\U0010ffff \ue000 private, ﷽ ﬁ", "x" + " " * 70 + "y" + "\n" * 20 + "z", "<0x41> and <0x0A> are text",
    "\u2581literal\u2581 visible \u2581 space\u2581", "<s>hello</s> <unk> x<pad>", "<|endoftext|>a<|im_start|>user\nb<|im_end|> c",
]
TEXTS = ODD + [test for _, _, test in LANGUAGES.values()]

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"


def splits(*patterns):
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# As the models' own tokenizer.json have them; "default" after llama.cpp.
PRE = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "llama-bpe": lambda: splits(HEAD + r"\p{N}{1,3}" + TAIL),
    "qwen2": lambda: splits(HEAD + r"\p{N}" + TAIL),
    "default": lambda: splits(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
}


def write_gguf(name, model, tokens, types, **rest):
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for key, value in rest.items():
        getattr(writer, f"add_{key}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def train(kind, vocab_size, texts, **options):
    model = io.BytesIO()
    options = {"remove_extra_whitespaces": False, "add_dummy_prefix": True, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type=kind, vocab_size=vocab_size, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", hard_vocab_limit=False, num_threads=1, minloglevel=2,
        allow_whitespace_only_pieces=True, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def pieces_of(spm):
    return [(id, spm.id_to_piece(id)) for id in range(spm.get_piece_size())]


def kind_of(spm, id):
    return UNKNOWN if spm.is_unknown(id) else CONTROL if spm.is_control(id) else BYTE if spm.is_byte(id) else NORMAL


def helium():
    """A Unigram of Helium's pipeline: as tokenizer.json, and as the GGUF file of the same vocabulary."""
    controls = ["<unk>", "<s>", "</s>", "<pad>"]
    extra = ["<|im_start|>", "<|im_end|>"]
    # Trained by SentencePiece, whose trainer gives the same pieces every time, with scores that a GGUF file can hold.
    spm = train("unigram", 900, [line for text in TRAIN for line in text.split("\n")])
    normal = [(piece, spm.get_score(id)) for id, piece in pieces_of(spm) if kind_of(spm, id) == NORMAL]
    vocab = [(piece, 0.0) for piece in [*controls, *extra, *BYTES, "\n"]] + normal

    def pipeline(single_word, special):
        tokenizer = Tokenizer(models.Unigram(vocab, 0, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(" "), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "contiguous")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
        added = lambda token, special: AddedToken(token, single_word=single_word, normalized=False, special=special)
        tokenizer.add_tokens([added(token, True) for token in special] + [added(token, False) for token in extra]
                             + [AddedToken("\n", normalized=False)])
        return tokenizer

    reference = pipeline(True, controls[1:])
    reference.enable_padding(pad_id=3, pad_token="<pad>")
    state = json.loads(reference.to_str())
    (OUT / "helium.json").write_text(json.dumps(state, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
    reference.no_padding()

    pieces = [piece for piece, _ in vocab]
    kinds = {**dict.fromkeys(controls, CONTROL), "<unk>": UNKNOWN, "\n": USER_DEFINED,
             **dict.fromkeys(extra, USER_DEFINED), **dict.fromkeys(BYTES, BYTE)}
    write_gguf("helium", "llama", pieces, [kinds.get(piece, NORMAL) for piece in pieces], token_scores=[score for _, score in vocab],
               bos_token_id=1, eos_token_id=2, unk_token_id=0, add_bos_token=True, add_space_prefix=True)
    yield "helium.json", "unigram", reference, len(pieces)
    # A GGUF file does not record that a token must be a word of its own.
    yield "helium.gguf", "unigram", pipeline(False, controls), len(pieces)


class SentencePiece:
    """The reference with the interface of `tokenizers`."""

    def __init__(self, model, prefix):
        self.model, self.prefix = model, prefix

    def ids(self, text):
        return self.prefix + self.model.encode(text)

    def decode(self, ids):
        return self.model.decode(ids)


def sentencepiece_models():
    for name, kind, vocab_size, trims, prefix in [("spm-bpe", "bpe", 900, False, True), ("spm-unigram", "unigram", 900, False, True),
                                                  ("spm-unigram-trim", "unigram", 700, True, True), ("spm-bpe-bare", "bpe", 800, False, False)]:
        spm = train(kind, vocab_size, TRAIN, remove_extra_whitespaces=trims, add_dummy_prefix=prefix)
        # The flags' defaults must do for the first.
        flags = {} if name == "spm-bpe" else {"add_space_prefix": prefix, **({"remove_extra_whitespaces": True} if trims else {})}
        ids = range(spm.get_piece_size())
        write_gguf(name, "llama", [piece for _, piece in pieces_of(spm)], [kind_of(spm, id) for id in ids],
                   token_scores=[spm.get_score(id) for id in ids], bos_token_id=1, eos_token_id=2, unk_token_id=0, **flags)
        yield f"{name}.gguf", kind, SentencePiece(spm, [1]), len(ids)


def byte_level():
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    for pre, pre_tokenizer in PRE.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer(), decoders.ByteLevel()
        if pre == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=controls, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(TRAIN, trainer)
        add_bos = pre == "llama-bpe"
        if add_bos:
            tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(
                "<|endoftext|> $A", "<|endoftext|> $A $B", [("<|endoftext|>", 0)])])
        state = json.loads(tokenizer.to_str())
        vocab = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
        write_gguf(pre, "gpt2", vocab, [CONTROL if token in controls else NORMAL for token in vocab], tokenizer_pre=pre,
                   token_merges=[" ".join(merge) for merge in state["model"]["merges"]], bos_token_id=0, eos_token_id=2,
                   **({} if add_bos else {"add_bos_token": False}))
        if add_bos:
            (OUT / f"{pre}.json").write_text(json.dumps(state, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
            yield f"{pre}.json", "byte-level-bpe", tokenizer, len(vocab)
        yield f"{pre}.gguf", "byte-level-bpe", tokenizer, len(vocab)


def comparable(name, text):
    """Whether the reference means to do with `text` what this project does."""
    if name.startswith("spm"):
        # SentencePiece takes special tokens in a text for text, and here they are tokens, as elsewhere.
        return not any(special in text for special in ("<s>", "</s>", "<unk>"))
    # `tokenizers` reads "<0x41>" in a text as the byte; from a GGUF file it is text, as for SentencePiece.
    return not (name == "helium.gguf" and "<0x" in text)


def random_ids(name, kind, reference, size):
    """Sequences that no text gives: bytes that form no characters, special tokens in between."""
    rng = random.Random(name)
    for length in [1, 1, 2, 3, 5, 8, 13, 21, 34, 34]:
        ids = [rng.randrange(1, size) for _ in range(length)]
        # A run of bytes that is not all UTF-8 is replaced as a whole by `tokenizers`, a byte at a time by SentencePiece,
        # whose way is followed: so byte pieces only where it is the reference.
        if name.startswith("helium"):
            ids = [id for id in ids if reference.id_to_token(id) not in BYTES]
        yield [ids, reference.decode(ids)]


def main():
    OUT.mkdir(exist_ok=True)
    expected = {}
    for name, kind, reference, size in [*helium(), *sentencepiece_models(), *byte_level()]:
        encode = reference.ids if isinstance(reference, SentencePiece) else lambda text: reference.encode(text).ids
        expected[name] = {
            "kind": kind,
            "vocab_size": size,
            "ids": [encode(text) if comparable(name, text) else None for text in TEXTS],
            "decoded": list(random_ids(name, kind, reference, size)),
        }
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(case, ensure_ascii=True, separators=(',', ':'))}" for name, case in expected.items())
    texts = ",\n".join(json.dumps(text, ensure_ascii=True) for text in TEXTS)
    (OUT / "expected.json").write_text(f'{{"texts":[\n{texts}\n],\n"vocabularies":{{\n{lines}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    main()
