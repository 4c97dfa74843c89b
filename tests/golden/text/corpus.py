"""The 5,000 strings of the tokenizer goldens and the text that their small tokenizers are trained on.

Everything is drawn from the tables below with a fixed seed, so that the files can be made again anywhere. Code points
are limited to what Unicode 14 assigns: libraries disagree about newer ones.
"""

import random
import unicodedata

WORDS = """the of and to in is that it was for on are as with his they be at one have this from or had by hot but some what
there we can out other were all your when up use word how said an each she which do their time if will way about many then
them would write like so these her long make thing see him two has look more day could go come did my sound no most number
who over know water than call first people may down side been now find any new work part take get place made live where
after back little only round man year came show every good me give our under name very through just form much great think
say help low line before turn cause same mean differ move right boy old too does tell sentence set three want air well also
play small end put home read hand port large spell add even land here must big high such follow act why ask men change went
light kind off need house picture try us again animal point mother world near build self earth father movie film watching
brilliant terrible acting plot boring wonderful performance director story character scene ending beautiful awful masterpiece
tokenizer normalization international unbelievable antidisestablishmentarianism running runner runs played playing plays
x y z a I naive cafe resume unhappiness strawberries""".split()

CONTRACTIONS = ["don't", "I'll", "we've", "they're", "it's", "I'm", "he'd", "DON'T", "I'LL", "IT'S", "can’t", "rock'n'roll",
                "'tis", "y'all've", "o'clock", "'s", "'ſ", "'K", "''s", "do not", "Tom's", "n't", "it 's", "could 've"]

PHRASES = ["Привет, как дела?", "Съешь ещё этих мягких булок", "Γειά σου Κόσμε", "ΟΔΟΣ ὀδός ᾳ", "שלום עולם", "עִבְרִית",
           "مرحبا بالعالم", "اَلْعَرَبِيَّةُ", "你好世界", "我喜欢看电影。", "繁體中文測試", "こんにちは世界", "カタカナﾊﾝｶｸ", "漢字かな交じり文",
           "안녕하세요 세계", "각힣 한글", "नमस्ते दुनिया", "क्षत्रिय", "हिन्दी में", "বাংলা ভাষা", "ਪੰਜਾਬੀ", "ગુજરાતી", "தமிழ் மொழி",
           "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "සිංහල", "ภาษาไทย", "น้ำ", "ພາສາລາວ", "བོད་སྐད།", "မြန်မာ", "ქართული", "Հայերեն", "አማርኛ",
           "ᏣᎳᎩ", "ខ្មែរ", "ᠮᠣᠩᠭᠣᠯ", "Tiếng Việt", "Ελληνικά", "Ünïcödé", "ñandú", "façade", "Ångström Å Å", "ﬁne ﬂow",
           "İstanbul ıI", "straße STRASSE ẞ", "Žluťoučký kůň", "ﷺ ﷲ", "①②③ ⅳ ½ ²", "Ⅻ ㍻ ㌀", "𝕳𝖊𝖑𝖑𝖔", "𝟘𝟙𝟚", "🄰🄱 ⒶⒷ",
           "ʻokina", "ꦗꦮ", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "𐍈𐌰𐌹", "𓀀𓀁", "𠜎𠜱", "〇〡〢", "٣٤٥", "१२३", "๑๒๓", "߀߁", "፩፪", "—–‐‑“”‘’…‹›«»",
           "¿Qué? ¡Sí!", "、。「」『』・", "؟،؛", "।॥", "€£¥₹₿", "±×÷≠≤∞∑√", "←→⇒", "█▓▒░", "♥♦♣♠", "\u180eab\u180e c", "ª º µ"]

EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇩🇪", "1️⃣", "👨🏾‍💻", "❤️", "🧑‍🚀", "☕", "⚡︎", "🫠", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "™️", "🤷🏻‍♀️"]

SPECIAL = ["<|endoftext|>", "<|endoftext", "|>", "<|padding|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
           "<|im_start|>", "<|im_end|>", "<repo_name>", "<mask>", "<s>", "</s>", "<unk>", "<pad>", "[CLS]", "[SEP]", "[MASK]",
           "[PAD]", "[UNK]", "[cls]", "[mask]", "<0x41>", "<0xE2>", "<0x0A>", "##ing", "▁", "Ġ", "Ċ", "Ā", "ĠĠ", "<|", "<",
           "New York", "brandnew", "BrandNew", "[Café]"]

BLANKS = [" ", "  ", "   ", "\n", "\n\n", "\t", "\t\t", "\r\n", " \n ", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085",
          "\x0b", "\x0c", "    ", "        ", " " * 25, "\u200b", "\u1680", "\u202f", "\r", "\n \n", " \t "]

CONTROL = [chr(c) for c in range(32)] + [chr(c) for c in range(127, 161)] + [
    "\u00ad", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202a", "\u202e", "\u2060", "\u2066", "\ufeff", "\ufffd",
    "\ufffe", "\uffff", "\ue000", "\ue123", "\uf8ff", "\U000e0001", "\U000f0000", "\U0010fffd", "\U0010ffff", "\ufdd0",
    "\u0600", "\u06dd", "\u070f", "\u180e", "\u061c"]

CODE = ["def f(x):\n    return x**2  # squared\n", "for (int i = 0; i < n; ++i) {\n\ta[i] += 1;\n}", "<div class=\"a\">&amp;</div>",
        "SELECT * FROM t WHERE id=42;", "https://example.org/a/b?c=d&e=%20#f", "name.surname+tag@mail.example", "C:\\Users\\x",
        "{\"key\": [1, 2.5e-3, null]}", "0xDEADBEEF", "v1.2.3-rc4", "#include <vector>", "a->b::c", "\\frac{1}{2}", "x_1 = y_{2}",
        "snake_case camelCase PascalCase", "$HOME/.config", "!@#$%^&*()", "`~-_=+[]{}|;:'\",.<>/?", "100%", "a...b", "--flag=value"]

MARKS = [chr(c) for c in range(0x300, 0x370) if unicodedata.category(chr(c)) == "Mn"] + list("ְּׁ҈҉़्ंิ゙゚้⃝⃣َّٰ")


def sentence(rng, low=2, high=9):
    words = [rng.choice(WORDS) for _ in range(rng.randint(low, high))]
    for k, word in enumerate(words):
        roll = rng.random()
        if roll < 0.08:
            words[k] = word.upper()
        elif roll < 0.2:
            words[k] = word.capitalize()
        elif roll < 0.26:
            words[k] = rng.choice(CONTRACTIONS)
        elif roll < 0.31:
            words[k] = str(rng.randint(0, 10 ** rng.randint(1, 7)))
        elif roll < 0.35:
            words[k] += rng.choice([",", ";", ":", " -", "/"])
    return " ".join(words) + rng.choice([".", "!", "?", "...", "", " .", " ,"])


def training_text(seed=1, lines=2500):
    rng = random.Random(seed)
    out = []
    for _ in range(lines):
        roll = rng.random()
        if roll < 0.75:
            out.append(sentence(rng, 6, 14))
        elif roll < 0.9:
            out.append(" ".join(rng.choice(PHRASES) for _ in range(3)))
        else:
            out.append(rng.choice(CODE))
    return out


def assigned(code):
    return unicodedata.category(chr(code)) not in ("Cn", "Cs") and code != 0


def random_code_points(rng):
    planes = [(0x20, 0x7F), (0x80, 0x250), (0x250, 0x600), (0x600, 0x1000), (0x1000, 0x2000), (0x2000, 0x3100),
              (0x3100, 0xA000), (0xA000, 0xE000), (0xF900, 0x10000), (0x10000, 0x12000), (0x1D000, 0x1FB00), (0x20000, 0x20100)]
    out = []
    while len(out) < rng.randint(1, 12):
        low, high = rng.choice(planes)
        code = rng.randrange(low, high)
        if assigned(code):
            out.append(chr(code))
            if rng.random() < 0.2:
                out.append(rng.choice([" ", " ", "a", "1"]))
    return "".join(out)


def mixed(rng):
    pools = [WORDS, CONTRACTIONS, PHRASES, EMOJI, SPECIAL, CODE]
    parts = [rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 4))]
    return "".join(part + rng.choice(["", "", " ", rng.choice(BLANKS)]) for part in parts)


def numbers(rng):
    digits = rng.choice(["0123456789", "0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "𝟘𝟙𝟚𝟛", "²³¹⁴", "ⅠⅡⅢ½¼㈠", "一二三"])
    parts = ["".join(rng.choice(digits) for _ in range(rng.randint(1, 8))) for _ in range(rng.randint(1, 4))]
    return rng.choice(["", " ", "a", "-", "$"]) + rng.choice([".", ",", " ", "", "-", "x", "  "]).join(parts)


def one(rng):
    roll = rng.random()
    if roll < 0.26:
        text = sentence(rng)
    elif roll < 0.36:
        text = rng.choice(PHRASES) + rng.choice(["", " ", ", "]) + rng.choice(PHRASES + WORDS)
    elif roll < 0.50:
        text = random_code_points(rng)
    elif roll < 0.54:
        text = "".join(rng.choice(EMOJI) + rng.choice(["", " "]) for _ in range(rng.randint(1, 4)))
    elif roll < 0.60:
        base = rng.choice(["e", "a", "o", "क", "ก", "ا", "が", "", " ", "1", "Z", "여"])
        text = "".join(base + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(1, 3)))
    elif roll < 0.66:
        text = "".join(rng.choice(CONTROL) + rng.choice(["", rng.choice(WORDS), " "]) for _ in range(rng.randint(1, 5)))
    elif roll < 0.73:
        text = numbers(rng)
    elif roll < 0.82:
        text = "".join(rng.choice(SPECIAL) + rng.choice(["", " ", "a", "  ", "\n", "é"]) for _ in range(rng.randint(1, 4)))
    elif roll < 0.88:
        text = "".join(rng.choice(BLANKS) + rng.choice([rng.choice(WORDS), "", "1", "."]) for _ in range(rng.randint(1, 5)))
    elif roll < 0.92:
        text = rng.choice(CODE)
    else:
        text = mixed(rng)
    if rng.random() < 0.1:
        text = rng.choice(BLANKS) + text
    if rng.random() < 0.1:
        text += rng.choice(BLANKS)
    return text


LONG = [("a", 20000, ""), ("ab ", 7000, "end"), (" ", 20000, "x"), ("\n", 5000, ""), ("é", 9000, ""), ("你好", 4000, "。"),
        ("1234567890", 1500, ""), ("👩‍👩‍👧‍👦", 800, ""), ("e\u0301\u0323", 3000, ""), ("!?", 5000, ""), ("the movie ", 2500, ""),
        ("antidisestablishmentarianism", 700, ""), ("<|endoftext|>", 1000, ""), ("a\u0300", 4000, " b"), ("[MASK] ", 900, ""),
        ("\t", 6000, "\n"), ("don't ", 2000, ""), ("x" * 99, 1, ""), ("x" * 100, 1, ""), ("x" * 101, 1, ""), ("한", 3000, ""),
        (" a", 9000, ""), ("  b", 5000, ""), ("\u0301", 3000, ""), ("\U0001f1eb", 1500, "")]


def strings(accept, count=5000, seed=7):
    """(unit, repeats, tail) of each string; `accept(text)` may refuse a random one."""
    rng = random.Random(seed)
    out = [("", 1, "")] + [(chr(c), 1, "") for c in range(1, 128)] + [(t, 1, "") for t in PHRASES + EMOJI + SPECIAL + BLANKS]
    out += [("", 1, ""), ("\x00", 1, ""), ("a\x00b", 1, "")] + LONG
    seen = {item for item in out}
    while len(out) < count:
        item = (one(rng), 1, "")
        if item not in seen and accept(item[0]):
            seen.add(item)
            out.append(item)
    return out
