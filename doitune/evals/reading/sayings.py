"""What is said about an option's letter before and after it: that it is chosen, right, wrong, taken back. All
texts are as `plain.clean` leaves them."""

from __future__ import annotations

import re

from doitune.evals.reading.patterns import Pattern, Phrase, pattern

CHOICE = Pattern(
    (
        Phrase(
            "the answer is",
            "(?<!错误)(?<!错误的)(?<!不正确)(?<!不正确的)(?<!错)(?:(?<!不)正确|最终|参考|本题|标准)?(?:答案|(?<![各个列下有])选项|选择)"
            "(?:应该|应当|应|就|其实|实际上|显然|仍然?|还|只能|可能|大概|也许)?(?:是|为|选|在|包括|包含|:)+",
            "本题选项在",
            "本题正确",
        ),
        Phrase(
            "the answer",
            "(?<![是为])(?<![是为]正确)(?<![是为]正确的)(?<![是为]本题)(?<![是为]最佳)(?<![是为]唯一)答案",
            "答案",
            "C是正确答案,",
        ),
        Phrase(
            "choose",
            "选择|(?<![A-F当入不多少错误漏可])(?<![A-F][要可能应当必])选(?!项)[出中定了]?",
            "我选了",
            "A可选",
        ),
        Phrase("guess", "(?<![解回作问])答|选取|猜|倾向于?|偏向", "我猜", "猜测"),
        Phrase(
            "I think",
            "我(?:认为|觉得|看)(?:应该?)?[是选为]|(?:毫无疑问|无疑|显然|肯定|必然)(?:应该?)?[是选为]",
            "我认为是",
            "我认为它是",
        ),
        Phrase("each", "分别(?=[是为:有])", "分别是", "分别对应"),
        Phrase(
            "corrected to",
            "更正|改[成选]了?|确定(?=[是为])|锁定|正解(?=[是为:])|(?<!分别)对应(?=选|[是为]|$)",
            "后来改成",
            "改了",
        ),
        Phrase(
            "the answer corrected to",
            r"(?:\A|(?<=[。;!?\n,\s]))(?:(?:所以|因此|因而|故),?)?(?:本题|我?[把将])?答案(?:应该?|需要?|就)?(?:修?改|修正)[为成]了?",
            "所以答案改为",
            "不要把答案改为",
        ),
        Phrase("only left", "剩[下余]?的?|余下的?|(?<!不)(?:只有|仅有?|唯有)", "余下的", "不只有"),
        Phrase(
            "it follows",
            "可得|(?<![中里以够])得[到出](?!,)|(?:综上|因此|因而|所以|故|总之|结论)",
            "由此可得",
            "取得",
        ),
        Phrase(
            "fits the question",
            "符合(?:题意|要求|条件)?的?(?:选项|说法)?(?:是|为|有)",
            "符合题意的有",
            "符合题意",
        ),
        Phrase(
            "right is",
            "(?<!不)正确的?(?:选项|说法|做法|答案|一项)?(?:应[该当]?)?(?:是|为|有|包括)|(?<![反相对供效])应[该当]?(?:是|为)",
            "说法正确的有",
            "说法正确",
        ),
        Phrase(
            "the most",
            r"(?<![率数])最(?![^,。;:!?\n]{0,10}?(?:[误错选疑惑扰]|像是))[^,。;:!?\n]{1,10}的(?:一[项个种])?(?:选项)?(?:应该?)?[是为]",
            "最稳定的是",
            "最容易误选的是",
        ),
        Phrase(
            "it follows, in English",
            r"\b(?:so|thus|hence|therefore)\b\s*,?\s*(?:(?:its|it\s+is|that\s+leaves|only|id|I|we)\s+)?(?:\w+\s+(?:only|with)\s+)?",
            "so it is ",
            "also",
        ),
        Phrase("the answer is, in English", r"answers?\s*(?:is|are|:)?", "So the answer is the", "So it is"),
        Phrase(
            "the one that is so, in English",
            r"\b(?:answer|options?|statements?|choices?|ones?)\b(?:\s+(?!not\b|in?correct|wrong|false|never|no\b|cannot)\w+){1,6}?\s+(?:is|are)",
            "The statements that hold true are",
            "The statements that are not true are",
        ),
        Phrase(
            "right is, in English",
            r"(?:correct|right)\s+(?:option|choice|answer|one)s?\s*(?:is|are|:)?|must\s+be|\b(?:correct|right)\s*:",
            "The correct choice is",
            "The choice is",
        ),
        Phrase(
            "I say, in English",
            r"\bI(?:d|ll)?\s+(?:would\s+|will\s+)?(?:say|answer|guess|think|believe)\s*(?:that\s+)?(?:its|it\s+is)?",
            "Id say",
            "they say",
        ),
        Phrase(
            "choose, in English",
            r"(?:choose|pick|select|supports|points to|go with|going with|left with"
            r"|leaves(?:\s+us\s+with)?|by elimination)|options?\s+(?:is|are)",
            "I choose option",
            "I chose",
        ),
    ),
    behind=r"[\s:,】\])]*(?:应该|应|就|选择?|是|为|项|选项|the|option|choice|both)*[\s:,]*$",
    flags=re.IGNORECASE,
)
"""What stands right before letters that are an explicit choice."""

SAID_OF = pattern(
    "something is said of them",
    r"(?<![不没])的(?:选?项|说法|做法|一[项个]|[两二三]项)?(?:就|便|应)?[是有](?:选项)?[\s:]*$",
    "日照时间较长的是",
    "说的没有",
)
BLAMED = pattern(
    "said to be the wrong ones",
    r"(?:(?:不|欠)(?:正确|准确|对|当|妥|恰当|成立|属于|符合)|错误|有误|错)[^,。;!?\n]{0,6}?(?:选?项|说法|一项|的)?(?:是|为|有|:)[\s:]*$"
    r"|(?i:\b(?:incorrect|wrong|false|untrue)(?:\s+(?:option|choice|answer|statement|one)s?)?\s*(?:is|are|:)\s*$)",
    "说法不正确的有",
    "正确的是",
)
"""What stands right before letters that are the answer only where the question asks for what is wrong."""

NOT_BEFORE = Pattern(
    (
        Phrase("not", "不|(?<![分个特类级性])别|勿|非|没有?|无法|未必|很难说", "不应该选", "不难看出"),
        Phrase(
            "ruled out",
            "排除|去掉|剔除|除了?|[误错]选(?:成|了|为)?|(?:会|易|可能|别|不要)再?[多漏]选|错[把将]",
            "先排除选项",
            "除去",
        ),
        Phrase(
            "what some choose",
            "(?:有|很多|不少|许多|一些|多数)(?:人|同学|学生|考生)(?:会|可能|都|就|误|常|容易)*",
            "有人选",
            "众人",
        ),
        Phrase(
            "what some choose, in English",
            r"\b(?:many|some|most|several|people|students|readers|others)\b(?:\s+(?:people|students|readers|would|will|might|may|often|mistakenly|wrongly|tend|to))*",
            "many students might",
            "somewhat",
        ),
        Phrase("asked in disbelief", "怎么会?|难道", "难道是", "怎样选"),
        Phrase("less than", "比|优于|胜过", "它比", "比较"),
        Phrase(
            "not, in English",
            "not|(?:is|are|was|ca|can|do|does|should|would|could)nt|never",
            "you shouldnt choose",
            "nothing",
        ),
        Phrase(
            "ruled out, in English",
            r"exclud\w+|eliminat\w+|except|rule out|(?:anything|all) but",
            "we can eliminate option",
            "expect",
        ),
    ),
    behind=r"(?:是|选择?|应?该?|一定|见得|确定|猜|能|可以?|包括|含有?|为|掉|会|再|属于|选项|把|说|认为|以为|觉得|要|必|当|\s"
    r"|the|option|choose|pick|select|answer|say|be)*$",
    flags=re.IGNORECASE,
)
"""What stands right before letters that are not chosen."""

WRONG = Pattern(
    (
        Phrase(
            "not right",
            "不(?:正确|对|符|选|当|能选|应选|恰当|合|是|成立|准确|属|可|妥|行|够|太|完全|全|道德|一定|见得|该"
            r"|应该?|能(?=[,。;!\s]|$|成立|推出)|合理|可选)",
            "并不恰当",
            "不但",
        ),
        Phrase("denied", "未必|并非|而不是(?=[,。;]|$)", "未必", "而且"),
        Phrase("less than", "不[如比全]", "不如B", "不管"),
        Phrase(
            "unfounded",
            "说反|无关|矛盾|次之|其次|假的|干扰|有问题|没有(?:[A-F]|依据|根据|道理|体现|提到|提及|涉及)|倒置|缺乏|无稽|张冠李戴|以偏概全"
            "|偷换概念|无中生有|夸大|断章取义|答非所问|强加|曲解|漏洞|割裂|混淆|忽[略视]|遗漏|漏掉|相[左反悖]|[过太]于|太?绝对|未(?:提|涉|体)[及现到]|[于与][^,。;]{1,4}(?:无据|不符|相悖|矛盾)",
            "与题意无关",
            "与题意有关",
        ),
        Phrase("mistaken", "错|误", "有误", "有无"),
        Phrase("ruled out", "排除|(?:以|之|(?<![\u4e00-\u9fff]))外", "之外", "排队"),
        Phrase("signs", "[×✗✘❌✖✕╳]", "(×)", "(√)"),
        Phrase(
            "in English",
            r"incorrect|wrong|false|unlikely|impossible|is out\b|not\b|too \w+|distractor|mislead\w*|trap\b"
            r"|contradict|conflict|ignor|overlook|confus|misread|unsupported|irrelevant|unrelated|fails?\b|lacks?\b|never\b|errors?\b|mistake",
            "is out",
            "is outstanding, nothing else",
        ),
    ),
    flags=re.IGNORECASE,
)
WRONG_AFTER = pattern(
    "wrong in the same clause",
    r"^\s*(?:(?!因为|由于|其他|其余|所以|而|because|since|others?).){0,18}?" + WRONG.source,
    "的说法是错误的",
    "因为其他都错误",
    re.IGNORECASE,
)
WRONG_RIGHT_AFTER = pattern(
    "wrong with nothing between",
    r"^\s*(?:选?项|说法|都|均|全|也|是|为|的|就|则|便|会|is|are|\s)*" + WRONG.source,
    "项说法错误",
    "中的现象错误",
    re.IGNORECASE,
)
WRONG_APART = pattern(
    "wrong behind a comma or in brackets, with nothing else",
    rf"^\s*[,:(\[]\s*(?:说法|是|为)?{WRONG.source}[^,。;!()\nA-Za-z]{{0,3}}(?=[,。;!)\]\n]|$)",
    "(错误)",
    ",错误的是B",
    re.IGNORECASE,
)
DOUBTED = pattern(
    "asked and denied", r"^[^,。;!?\n]{0,6}\?\s*(?:不|错|否|no\b)", "对吗?不", "对吗?对", re.IGNORECASE
)

NO_ERROR = pattern(
    "no error",
    "(?:没有?|并?无|毫无)(?:任何|什么)?(?:错误|错(?!误)|误|语病|毛病|问题|不当|不妥|疑问|疑(?!问))(?:的(?:地方|之处|内容|部分)|(?!的))",
    "没有任何错误",
    "没有问题的",
)
RIGHT_AFTER = Pattern(
    (
        Phrase("right", "正确|对(?!比|于|应|待|象|照)", "项是对的", "对于B"),
        Phrase("fits", "符合|相符", "最符合题意", "符号"),
        Phrase("chosen", "当选|可选|入选|[要可能应必]?选(?=[,。;!]|$)", "应选", "选择B"),
        Phrase("apt", "恰当|合适|合理|准确|贴[切合近]|接近|成立|[说讲]得通|胜出", "比较合理", "合同"),
        Phrase("possible", "可以|可行|可(?=[,。;!]|$)|行(?=[,。;!]|$)", "也可", "可能"),
        Phrase("the answer", "答案|正解", "是答案", "回答"),
        Phrase("that one", "才是|it is(?=[.!,;]|$)", "才是题目要找的", "才能"),
        Phrase(
            "better", "更?好(?=[,。;!]|$)|[佳优](?=[,。;!]|$)|为[准宜佳]|比[A-F]|优于|胜过", "比B好", "比较"
        ),
        Phrase("signs", "[√✓✔✅☑]", "(√)", "(×)"),
        Phrase(
            "in English",
            r"right|correct|accurate|valid|best|true|remains?\b|(?:is\s+)?left\b|(?:an?|the)\s+(?:much\s+)?better|fits?\b|match|works\b|(?:all\s+)?(?:holds?|apply)\b",
            "is the right one",
            "is a truck",
        ),
    ),
    before=r"^\s*[,(]?\s*(?:这[个一][个项]?|这?[两二三四][个项条]?|选?项|说法|[表叙陈]述|观点|都|均|皆|全部?|也|才|最|更|比较|较"
    r"|一定|肯定|必然|显然|明显|确实|的确|当然|应该|应|就|即|便|完全|不仅|不但|唯一|为|是|is|are|\s)*(?:的|the\s+)?",
    flags=re.IGNORECASE,
)

TAKEN_BACK = Pattern(
    (
        Phrase(
            "not right", r"不对(?=[,。!?:…]|\s|应[为该是选])(?!,?(?:因为|与|和))", "选A。不对,", "选A。不对称"
        ),
        Phrase("no", r"不(?=[,。;?!\s])", "选A,不,选B", "选A,不选B"),
        Phrase("wait", "等等|等一下", "选A。等等,", "选A。等待"),
        Phrase("corrected", "更正|改[为成选]|纠正|修正", "选A,改为B", "选A,改革"),
        Phrase("my mistake", "[说写搞选]错了|抱歉", "A。抱歉,", "选A。错了的是B"),
        Phrase("in fact", "(?:其实|实际上)(?=是|应|选|正确|答案)", "选A,其实是B", "选A,其实B也对"),
        Phrase(
            "in English", r"\bwait\b|\bactually\b|\bcorrection\b|\bno(?=\s*[,.!])", "A. No, B", "A. No one"
        ),
    ),
    before=r"(?:(?<=[,。;:!?\s…—])|(?<=\.\.))(?:哦|噢|啊|唔|呃|嗯|但|后来|现在|最后|最终)?\s*",
    behind=r"[,.。:;!…\s为]*",
    flags=re.IGNORECASE,
)
"""Where a reply takes back what it said."""

GIVES_UP = pattern(
    "no answer is given",
    "(?:无法|不能|难以|没法|没有?办法)(?:直接|准确|继续|为您?)?(?:作答|回答|给出|作出|判断|确定|选择)"
    r"|(?:cannot|can't|unable to|not able to)\s+(?:be\s+)?(?:answer|determin|decid|tell|say)",
    "我无法作答",
    "不能成立",
    re.IGNORECASE,
)

CONCEDED = Pattern(
    (
        Phrase("although", "虽然?|尽管", "虽然", "虽然,"),
        Phrase("it seems", "看似|看起来|看上去|似乎|貌似|乍一看|表面上", "看起来", "看来"),
        Phrase(
            "at first",
            "原以为|本以为|以为|一开始|起初|最初|原来[选以]|我先|第一(?:反应|眼|感觉|印象)|直觉|刚开始|一度|曾经?|本想|差点|险些|考虑过|原[本先]",
            "我先选",
            "首先选",
        ),
        Phrase(
            "what some sources say",
            "有[的些](?:资料|教材|答案|老师|网友|书|网站)|网上",
            "有的资料给出",
            "有的选项",
        ),
        Phrase(
            "supposed",
            "(?:如果|若|假如|假设|要是|倘若)(?:我们?)?(?:选择?|取|答案?[是为]|认为|是)",
            "如果选",
            "如果必须选一个,我",
        ),
        Phrase(
            "at first, in English",
            r"\b(?:initially|at\s+first|tempt\w*|thought|seems?|appears?|might|may\s+seem|although|though|while|whereas)\b",
            "I initially chose",
            "mighty",
        ),
    ),
    behind=r"[^,。;!?\n]*\Z",
    flags=re.IGNORECASE,
)
"""What stands in the clause before letters that are only conceded."""

SUPPOSED = pattern(
    "the question supposed to be another",
    r"(?i:(?:若|如果|假如|倘若|要是)(?:本?题目?|题干|是?问|改|选错误|换(?:一?[种个])?问法|只|仅|将|把|单纯|按照?|从)|\bif\s+the\s+question)[^。;!?\n]*\Z",
    "若题目改为别的,则选",
    "如果必须选一个,我选",
)
RIGHT_BUT = pattern(
    "right, but not the answer",
    r"^[^,。;!?\nA-F]{0,14},?\s*(?:但是?|不过|然而|可是|却|but|yet)[^,。;!?\nA-F]{0,10}?(?:不是|不属|并非|不符|不能|不全|没有?回答|无关|答非|忽|过于|绝对|not\b)(?![选项是为\s]*[A-F])",
    "的说法没有问题,但它不是主要原因",
    "的说法没有问题,但我不选B",
)
RIGHT_APART = pattern(
    "chosen, behind what is said of it",
    r"^[^。;!?\nA-F]{0,30},\s*(?:因此|故|所以)?(?:当选|入选)(?=[,。;!\n]|$)",
    "属于权利,当选。",
    "属于权利,B当选",
)
ASKED = pattern("only asked", r"^\s*[)选项]*(?:吗|呢|么|行吗|对吗)?\s*\?", "吗?", "是吗")
ALL_OTHERS = pattern(
    "not these, but all others",
    r"(?:(?:不选|排除了?|去掉|不包括)\s*(?P<out>[A-F](?:[、和,与 ]{0,3}[A-F]){0,3})"
    r"|(?<![A-F、和])(?P<wrong>[A-F](?:[、和,与 ]{0,3}[A-F]){0,3})"
    r"(?:选?项)?[^。;!?\n,A-F]{0,20}?(?:不|错|误|有问题))"
    r"[^。;!?\n,A-F]{0,12}[,;]\s*而?(?:其余|其他|其它|剩下|另外)(?:的|各|[二两三四]|选?项|个|选项|说法)*(?:都|均|全部?|皆)?(?:要|应该?|是|可)?(?:选|正确|对|符合|成立)"
    r"|(?i:everything|all|every option|the rest)(?:\s+of\s+(?:the\w*|them))?(?:\s+options)?"
    r"\s+(?:but|except(?:\s+for)?)\s+(?:option\s+)?(?P<but>[A-F])(?:\s+(?:is|are)\s+(?:all\s+)?(?:correct|right|true)|[.!]?\s*\Z)",
    "不选C,其余都选",
    "C正确,其余都错",
)
WHICH = (
    "(?:以上|上述|这些?|这?四[个项种]?|每一?[个项条]?|所有|全部|其余|各)(?:的)?(?:所有|全部|[四4][个项种])?"
    "(?:选?项|各项|说法|做法|观点|表述|答案)*"
)
ALL = Pattern(
    (
        Phrase("all options", WHICH, "答案是以上各项", "以上各项中的A"),
        Phrase(
            "all are right",
            f"(?:{WHICH})?(?:全部|全都|全|都|均|皆)(?:要|应该?|可以?|能|是|为)*"
            "(?:选择?|对|正确|是|可以?|行|要|符合(?:题意|要求)?)的?",
            "本题全选!",
            "全选吗",
        ),
        Phrase(
            "none is wrong", "没有(?:错误|不正确|不对)的(?:选项|说法)?", "没有错误的选项", "没有正确的选项"
        ),
        Phrase(
            "in English",
            r"all(?:\s+of)?(?:\s+(?:the|these|them|four))*(?:\s+(?:above|options?|choices|answers|statements))*"
            r"(?:\s+(?:is|are)(?:\s+(?:correct|right|true))?)?",
            "All of the above are correct",
            "All of them are wrong",
        ),
    ),
    before=r"^(?:(?:正确)?答案|应该?|故|因此|所以|综上(?:所述)?|本题|[此该]题|这道?题|我(?:认为|觉得|会)?|选择?"
    r"|是|为|[A-F、,\s])*",
    behind=r"[!~]*\Z",
    flags=re.IGNORECASE,
)
"""A whole clause that chooses every option."""

ALL_BUT = pattern(
    "all but",
    r"(?<![排去消扣])除了?([^。;!?\n]{1,20}?)(?:(?:以|之)?外|(?=都|均|全|其余|其他))"
    r"[^。;!?\n]{0,20}(?:都|均|全|其余|其他)[^。;!?\n]{0,20}",
    "除了B和D都正确",
    "除了B和D",
)
ANY_WRONG = pattern("wrong in two characters", "不|错", "都不正确", "都正确")
REFUSAL = Pattern(
    (
        Phrase("unable", "无法|不能|难以|不会", "无法判断", "没法子"),
        Phrase("unsure", "不知道|不清楚|不确定", "我不知道", "知道"),
        Phrase("no option", "没有(?:正确)?(?:答案|选项)|都不|均不", "没有正确答案", "没有问题"),
        Phrase("in English", "cannot|can't|don't know|none of", "I cannot say", "I can"),
    ),
    flags=re.IGNORECASE,
)
