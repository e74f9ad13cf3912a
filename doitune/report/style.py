"""How the page looks: one style for paper, light and dark screens; figures in columns that line up;
nothing to load."""

STYLE = """
:root{--paper:#fff;--ink:#1c1e21;--soft:#5f6670;--line:#e3e6ea;--panel:#f6f7f9;
--base:#8a93a0;--tuned:#0b6bcb;--good:#15803d;--bad:#c2410c;--mark:#b45309}
@media (prefers-color-scheme:dark){:root{--paper:#14161a;--ink:#e7e9ec;--soft:#9aa3ae;--line:#2b3037;
--panel:#1c1f25;--base:#7d8794;--tuned:#5aa9f5;--good:#4ade80;--bad:#fb923c;--mark:#fbbf24}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",
"Noto Sans","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:70rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
section+section,.contents+section{margin-top:4rem;padding-top:2rem;border-top:3px solid var(--line)}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
p{margin:.4rem 0;max-width:46rem}
.soft{color:var(--soft)}
.small{font-size:.85rem}
a{color:var(--tuned)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0}
.card{background:var(--panel);border-radius:.6rem;padding:.7rem .9rem}
.card b{display:block;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
.card span{color:var(--soft);font-size:.82rem}
.wide{overflow-x:auto;margin:.5rem 0}
.wide th:first-child,.wide td:first-child{position:sticky;left:0;background:var(--paper)}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{padding:.32rem .55rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);text-align:left;white-space:nowrap}
.figure{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.text{overflow-wrap:break-word;min-width:6.5rem;max-width:22rem}
.good{color:var(--good)}.bad{color:var(--bad)}.mark{color:var(--mark)}
figure{margin:.75rem 0}
figcaption{color:var(--soft);font-size:.82rem;margin-top:.25rem}
svg{display:block;width:100%;height:auto}
.broad svg{max-width:60rem}
.narrow{display:none}
@media (max-width:40rem){.broad{display:none}.narrow{display:block}}
svg text{fill:var(--soft);font-size:11px;font-family:inherit;font-variant-numeric:tabular-nums}
svg .name{fill:var(--ink)}
svg .axis{stroke:var(--line);stroke-width:1}
svg .faint{stroke:var(--tuned);stroke-opacity:.25;fill:none;stroke-width:1}
svg .curve{stroke:var(--tuned);fill:none;stroke-width:2;stroke-linejoin:round}
svg .second{stroke:var(--mark);fill:none;stroke-width:2;stroke-linejoin:round}
svg .dot{fill:var(--mark)}
svg .base{stroke:var(--base);fill:var(--base)}
svg .tuned{stroke:var(--tuned);fill:var(--tuned)}
svg .chance{stroke:var(--bad);stroke-dasharray:3 3}
svg .untrained{stroke:var(--base);stroke-width:1.5;stroke-dasharray:1 3}
svg .s0{color:var(--tuned)}
svg .s1{color:var(--mark)}
svg .s2{color:var(--good)}
svg .s3{color:var(--bad)}
svg .s4{color:var(--base)}
svg .line{stroke:currentColor;stroke-width:2;stroke-linejoin:round;fill:none}
svg .dash{stroke-dasharray:5 4}
svg .band{fill:currentColor;fill-opacity:.17}
svg .beyond{fill-opacity:.08}
svg .bare.band{fill-opacity:0}
svg circle.dot{fill:currentColor;stroke:var(--paper);stroke-width:.75}
svg .ring{fill:none;stroke:currentColor;stroke-width:1.5}
svg .span{stroke:currentColor;stroke-width:2.5}
svg .whisker{stroke:var(--base);stroke-width:1;stroke-opacity:.55}
svg .lesson{fill:var(--tuned)}
svg .harm{fill:var(--bad)}
svg .tiny{font-size:9px}
svg .strong{font-weight:700}
svg .taught{stroke:var(--ink);stroke-width:1.5}
svg .none{fill:var(--panel)}
svg .paper{fill:var(--paper)}
svg .bar-base{fill:var(--base)}
svg .bar-tuned{fill:var(--tuned)}
details{border:1px solid var(--line);border-radius:.5rem;margin:.4rem 0;padding:.1rem .8rem}
summary{cursor:pointer;padding:.4rem 0;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0 .8rem;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Noto Sans Mono CJK SC",monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.4rem 0;font-size:.88rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
@media (max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
.small-plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:.5rem 1.25rem}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(15.5rem,1fr));gap:.5rem 1rem}
.papers{background:var(--panel);border-radius:.6rem;padding:0 1.2rem 1rem}
section.papers{border-top:0;padding-top:0}
.papers .wide th:first-child,.papers .wide td:first-child{background:var(--panel)}
@media print{.wide{overflow:visible}table{font-size:.7rem}th,.figure{white-space:normal}
th,td{padding:.2rem .3rem}td.text{min-width:4rem}
.panels{grid-template-columns:repeat(3,1fr)}h2,h3{break-after:avoid}tr{break-inside:avoid}
figure,.panels svg{break-inside:avoid}details{border:0;padding:0}main{max-width:none;padding:0}}
"""
