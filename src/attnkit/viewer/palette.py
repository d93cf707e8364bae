"""The colours and sizes that every picture shares; lengths are inches, text is points, `DOTS` are dots an inch."""

Number = float | int  # beartype takes `float` at its word; people write 0 for 0.0

RIGHT = "#0072B2"
WRONG = "#D55E00"
GUESS = "0.45"
FOURTH = "#009E73"
FIFTH = "#CC79A7"
INK = "0.10"
QUIET = "0.40"
LEADER = "0.65"
EDGE = "0.70"
HIDDEN = "0.94"
HATCH = "0.72"
KEPT = "#9CC9E8"
LINES = (RIGHT, WRONG, FOURTH, FIFTH, INK, "#E69F00", "#56B4E9", "#7A5195")

FONT = "DejaVu Sans"
MONO = "DejaVu Sans Mono"
MORE_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Emoji",
    "Segoe UI Symbol",
    "Segoe UI Emoji",
)
TITLE_SIZE = 12.0
TEXT_SIZE = 10.0
SMALL_SIZE = 8.5
LINE_HEIGHT = 0.19
MARGIN = 0.15
DOTS = 95

NUMBERS_UP_TO = 8
