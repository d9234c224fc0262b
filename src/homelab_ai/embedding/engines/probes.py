"""The texts by which an export is compared with its model: many languages and lengths, and what texts end up being."""

_SENTENCES = (
    "The boiler in the cellar was serviced last week.",
    "Last week somebody came to service the heating in the basement.",
    "Turn off all the lights downstairs when nobody is home.",
    "Remind me to water the tomatoes tomorrow morning.",
    "An invoice from the electricity company, due at the end of March.",
    "Der Keller ist trocken, aber die Heizung macht Geräusche.",
    "Die Rechnung des Stromanbieters ist Ende März fällig.",
    "Il pleut depuis ce matin et le chat refuse de sortir.",
    "¿Dónde guardamos las fotos de las vacaciones del año pasado?",
    "La bolletta della luce scade alla fine di marzo.",
    "De fietsen staan in de schuur achter het huis.",
    "Zdjęcia z zeszłorocznych wakacji są na dysku w salonie.",
    "Напомни мне завтра утром полить помидоры.",
    "Τον λογαριασμό του ρεύματος πρέπει να τον πληρώσουμε τον Μάρτιο.",
    "明天早上提醒我给番茄浇水。",
    "誰も家にいないときは下の階の明かりを全部消してください。",
    "지난주에 지하실 보일러를 점검했습니다.",
    "ذكّرني أن أسقي الطماطم صباح الغد.",
    "תזכיר לי להשקות את העגבניות מחר בבוקר.",
    "कल सुबह मुझे टमाटरों को पानी देने की याद दिलाना।",
    "Sâu trong rừng có một ngôi nhà nhỏ bằng gỗ.",
)

_ODD = (
    "a",
    "",
    "   two spaces before,  within  and after  ",
    "ALL IN CAPITALS, AS IF THEY WERE SHOUTED",
    "all in capitals, as if they were shouted",
    "naïve café, Ångström, ﬁligree, ½ ℃ — “quoted” … and 🐈‍⬛🏠",
    "192.168.1.1, 2001:db8::1, https://example.com/a?b=c&d=%20#e, /var/log/syslog",
    "def load(path: str) -> dict[str, int]:\n    with open(path) as file:\n        return json.load(file)\n",
    '{"temperature": 21.5, "unit": "°C", "rooms": ["kitchen", "hall"], "ok": true}',
    "tab\there, line\nbreak, carriage\r\nreturn, nul-free",
    "supercalifragilisticexpialidocious" * 3,
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
)

LONGEST = 512
"""Tokens. Longer texts, where the window is larger, would keep torch busy for minutes."""


def texts(window: int) -> list[str]:
    """Return the texts for a model with that window, in tokens: short, odd, and up to and beyond the window."""
    every = " ".join(_SENTENCES)
    words = every.split()
    longest = min(window, LONGEST)
    long = [" ".join((words * 9)[start : start + count]) for start, count in _lengths(longest)]
    beyond = [f"{every} " * (1 + longest // 100)] if window <= LONGEST else []
    return [*_SENTENCES, *_ODD, *long, *beyond]


def _lengths(longest: int) -> list[tuple[int, int]]:
    """Where some longer texts begin and how many words they have. In most tokenizers a word is two or three tokens."""
    counts = [longest // part for part in (16, 12, 8, 6, 5, 4, 3)]
    return [(13 * number, max(2, count)) for number, count in enumerate(counts)]
