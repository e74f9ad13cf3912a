"""Texts that a model, a data set, a file name or a repository may hold, and what they would do to a
terminal or a page."""

from __future__ import annotations

from itertools import chain

ESC, BEL, ST = "\x1b", "\x07", "\x1b\\"

_OSC = [
    "0;title",
    "2;title",
    "52;c;aGVsbG8=",
    "8;;https://example.org",
    "4;1;rgb:00/00/00",
    "10;?",
    "11;#ffffff",
    "1337;File=name=eA==:eA==",
    "9;note",
    "777;notify;a;b",
]
_CSI = [
    *(
        "2J",
        "3J",
        "H",
        "1;1H",
        "10A",
        "10B",
        "K",
        "1K",
        "2K",
        "31m",
        "7m",
        "0m",
        "8m",
        "?25l",
        "?1049h",
        "?1049l",
        "?2004h",
        "6n",
        "c",
        "5n",
        "s",
        "u",
    ),
    *(
        "1;5r",
        "?1000h",
        "?1006h",
        "4h",
        "20h",
        "!p",
        "1 q",
        ">c",
        "21t",
        "14t",
        "8;50;200t",
        "1@",
        "5P",
        "5L",
        "5M",
        "5X",
        "5S",
        "5T",
        "?5h",
        "g",
        "3g",
    ),
]
_ESCAPES = [
    "c",
    "7",
    "8",
    "D",
    "E",
    "H",
    "M",
    "N",
    "O",
    "Z",
    "=",
    ">",
    "(0",
    "(B",
    ")0",
    "#8",
    "%G",
    "%@",
    " F",
    "n",
    "o",
    "|",
    "}",
    "~",
    "P1;2q",
    "X",
    "^",
    "_",
]
_SINGLES = [chr(code) for code in (*range(0x09), *range(0x0B, 0x20), 0x7F, *range(0x80, 0xA0))]
_TURNS = [
    "\u202a",
    "\u202b",
    "\u202c",
    "\u202d",
    "\u202e",
    "\u2066",
    "\u2067",
    "\u2068",
    "\u2069",
    "\u200e",
    "\u200f",
    "\u061c",
]
_HIDDEN = [
    *(
        "\u200b",
        "\u200c",
        "\u200d",
        "\u2060",
        "\u2061",
        "\ufeff",
        "\u00ad",
        "\u180e",
        "\u034f",
        "\u115f",
        "\u1160",
        "\u3164",
        "\uffa0",
        "\u2028",
        "\u2029",
    ),
    *("\U000e0041", "\U000e0100", "\ue000", "\U000f0000", "\ufff9", "\ufe00"),
]
_RICH = [
    "[/foo]",
    "[bold]",
    "[link=https://example.org]x[/link]",
    "[red]a[/]",
    "\\[x]",
    "[/]",
    "[@click=app.bell]x[/]",
    ":boom:",
    "[[[",
    "]]",
]

TERMINAL = [
    *chain.from_iterable((f"{ESC}]{one}{BEL}", f"{ESC}]{one}{ST}", f"\x9d{one}\x9c") for one in _OSC),
    *(f"{ESC}[{one}" for one in _CSI),
    *(f"\x9b{one}" for one in _CSI[:10]),
    *(f"{ESC}{one}" for one in _ESCAPES),
    *_SINGLES,
    *_TURNS,
    *_HIDDEN,
    *_RICH,
    f"{ESC}P+q544e{ST}", f"{ESC}_Gf=100,a=T;AAAA{ST}", f"{ESC}^x{ST}", f"{ESC}X x{ST}", f"{ESC}{ESC}[31m", f"{ESC}[", f"{ESC}]", ESC * 5,
]  # fmt: skip
"""What would drive, hide from or turn round a terminal, or break a printer that reads markup."""

_CALLS = ["alert(1)", "fetch('https://example.org/x')", "document.write(1)", "location='https://example.org'"]
_TAGS = [
    *(
        "<script>{}</script>",
        "<img src=x onerror={}>",
        "<svg onload={}>",
        "<svg><script>{}</script></svg>",
        "<body onload={}>",
        "<iframe srcdoc='<script>{}</script>'>",
    ),
    *(
        "<details open ontoggle={}>",
        "<input autofocus onfocus={}>",
        "<math><mtext></mtext><script>{}</script></math>",
        "</pre><script>{}</script>",
    ),
    *(
        "</title><script>{}</script>",
        "</style><script>{}</script>",
        "</summary></details><script>{}</script>",
        "</dd></dl><script>{}</script>",
    ),
    *(
        '"><script>{}</script>',
        "'><script>{}</script>",
        '" onmouseover="{}',
        "' onmouseover='{}",
        "`onmouseover={}",
        "--><script>{}</script>",
        "]]><script>{}</script>",
    ),
]
_OTHERS = [
    *(
        "javascript:alert(1)",
        "<a href=javascript:alert(1)>x</a>",
        "<base href=https://example.org/>",
        "<link rel=stylesheet href=https://example.org/x.css>",
    ),
    *(
        "<meta http-equiv=refresh content='0;url=https://example.org'>",
        "<form action=https://example.org><input name=a></form>",
        "<object data=https://example.org></object>",
    ),
    *(
        "<embed src=https://example.org>",
        "<style>*{background:url(https://example.org/x)}</style>",
        "<img src=https://example.org/x.png>",
        "<video src=https://example.org/v>",
    ),
    *(
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#60;script&#62;alert(1)&#60;/script&#62;",
        "\\u003cscript\\u003ealert(1)",
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
    ),
    *(
        "{{7*7}}",
        "${alert(1)}",
        "<%= 7*7 %>",
        "<!--",
        "<![CDATA[",
        "\u2028alert(1)\u2029",
        "<\x00script>alert(1)</script>",
    ),
]

XSS = [*(frame.format(call) for frame in _TAGS for call in _CALLS), *_OTHERS]
"""What would run, load or break out of a page."""

assert len(TERMINAL) >= 200 and len(set(TERMINAL)) == len(TERMINAL)
assert len(XSS) >= 100 and len(set(XSS)) == len(XSS)
