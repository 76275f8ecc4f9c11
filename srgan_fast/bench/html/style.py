"""How the page and its charts look: light and dark as the reader's system is, from telephones to paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --bg: #f5f6f8; --card: #ffffff; --ink: #12161d; --soft: #586273; --line: #e4e7ec; --fill: #f1f3f6;
  --accent: #1f5fe0; --accent-soft: #eaf1ff; --bad: #c62436; --bad-soft: #fdecee; --warn: #8a5a00;
  --warn-soft: #fff6e0; --warn-line: #f0d999; --good: #0e7a4f;
  --t0: #1f5fe0; --t1: #dd6b10; --t2: #7a46d8; --t3: #0c8f86; --t4: #cf2f86; --t5: #5f8a0a; --t6: #0f8f3f;
  --t7: #6b7686;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --bg: #0c0f14; --card: #151a21; --ink: #e9edf3; --soft: #97a3b4; --line: #272e38; --fill: #1c222b;
    --accent: #7aa9ff; --accent-soft: #17263f; --bad: #ff7d8a; --bad-soft: #3a1a20; --warn: #f1c262;
    --warn-soft: #2c2413; --warn-line: #55451c; --good: #4fcf98;
    --t0: #6ea3ff; --t1: #ff9d4d; --t2: #b491ff; --t3: #3ecfc3; --t4: #ff7fbd; --t5: #a8d147; --t6: #5bd987;
    --t7: #9aa6b5;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--bg); color: var(--ink); line-height: 1.5; font-size: 15px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 44px; }
.eyebrow { margin: 0 0 6px; color: var(--accent); font-size: 13px; font-weight: 650; letter-spacing: .02em; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -.02em; font-weight: 700; overflow-wrap: anywhere; }
.subtitle { margin: 8px 0 0; color: var(--soft); overflow-wrap: anywhere; }
h2 { margin: 0 0 2px; font-size: 20px; line-height: 1.3; letter-spacing: -.01em; overflow-wrap: anywhere; }
h3 { margin: 26px 0 2px; font-size: 15px; font-weight: 650; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 12px; margin: 26px 0 0; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
.tile { padding: 16px 18px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; }
.tile .figure { font-size: 27px; font-weight: 700; letter-spacing: -.02em; line-height: 1.3; overflow-wrap: anywhere; }
.tile .note { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
nav { margin: 22px 0 0; display: flex; flex-wrap: wrap; gap: 8px; }
nav a { color: var(--soft); text-decoration: none; font-size: 13px; padding: 4px 11px; border: 1px solid var(--line);
  border-radius: 99px; background: var(--card); overflow-wrap: anywhere; }
nav a:hover { color: var(--accent); border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
section { padding: 24px 28px 26px; margin: 18px 0 0; scroll-margin-top: 16px; }
.lead { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
.lead.under { font-size: 13px; }
.notice { margin: 18px 0 0; padding: 13px 18px; border-radius: 14px; background: var(--warn-soft);
  border: 1px solid var(--warn-line); }
.notice h2 { font-size: 15px; color: var(--warn); }
.notice ul { margin: 4px 0 0; padding-left: 18px; overflow-wrap: anywhere; }
figure { margin: 10px 0 0; }
.narrow { display: none; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { font-size: 12px; fill: var(--ink); }
.chart .axis { fill: var(--soft); font-size: 11px; }
.chart .value { fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
.chart .mark { fill: var(--bad); font-weight: 700; text-transform: uppercase; font-size: 10px; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.t0 { --c: var(--t0); } .t1 { --c: var(--t1); } .t2 { --c: var(--t2); } .t3 { --c: var(--t3); }
.t4 { --c: var(--t4); } .t5 { --c: var(--t5); } .t6 { --c: var(--t6); } .t7 { --c: var(--t7); }
.t-bad { --c: var(--bad); }
.chart .box { fill: var(--c); fill-opacity: .16; stroke: var(--c); stroke-opacity: .55; }
.chart .whisker { stroke: var(--c); stroke-opacity: .5; stroke-width: 1.2; }
.chart .median { stroke: var(--c); stroke-width: 2.6; stroke-linecap: round; }
.chart .dot { fill: var(--c); fill-opacity: .62; }
.chart .dot:hover { fill-opacity: 1; stroke: var(--ink); stroke-width: 1.2; }
.chart .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.chart .d1 { stroke-dasharray: 6 5; } .chart .d2 { stroke-dasharray: 1 5; }
.chart .knot { fill: var(--card); stroke: var(--c); stroke-width: 2; }
.chart .knot:hover, .chart .point:hover { stroke: var(--ink); }
.chart .leader { stroke: var(--line); stroke-width: 1; }
.chart .point { fill: var(--c); stroke: var(--card); stroke-width: 1.2; }
.chart .cross { fill: none; stroke: var(--c); stroke-width: 2.4; stroke-linecap: round; }
.chart .part { fill: var(--c); stroke: var(--card); stroke-width: 1; }
.chart .pale .point, .chart .part.pale { fill-opacity: .42; }
.chart .part:hover { fill-opacity: .8; }
.chart .name.tone { fill: var(--ink); }
.scroll { overflow-x: auto; margin: 12px -28px 0; padding: 0 28px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; text-align: left; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 550; font-size: 12.5px; white-space: nowrap;
  border-bottom-color: var(--soft); }
tbody th { font-weight: 600; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover > * { background: var(--fill); }
.num { text-align: right; white-space: nowrap; }
td.text { white-space: nowrap; }
td.text.long { white-space: normal; min-width: 13em; overflow-wrap: anywhere; }
.bar { display: block; height: 3px; margin-top: 3px; border-radius: 2px; background: var(--fill); min-width: 64px; }
.bar i { display: block; height: 100%; border-radius: 2px; background: var(--c, var(--accent)); }
tr.best > th { color: var(--accent); }
tr.wrong, tr.failed, tr.wrong .reason, tr.failed .reason { color: var(--bad); }
tr.wrong .bar i { background: var(--bad); }
.pill { display: inline-block; padding: 0 7px; border-radius: 99px; font-size: 11px; font-weight: 700;
  line-height: 18px;
  text-transform: uppercase; letter-spacing: .03em;
  background: var(--bad-soft); color: var(--bad);
  margin-left: 6px; }
.reason { display: block; font-weight: 400; font-size: 12.5px; color: var(--soft); white-space: normal; min-width: 16em;
  overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: minmax(120px, 200px) 1fr; margin: 12px 0 0; font-size: 14px; }
dl.facts > * { margin: 0; padding: 6px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
dl.facts > dt { color: var(--soft); padding-right: 16px; }
dl.facts > :nth-last-child(-n+2) { border-bottom: 0; }
footer { color: var(--soft); font-size: 13px; padding-top: 22px; padding-bottom: 48px; }
@media (max-width: 720px) {
  body { font-size: 14px; }
  main, header, footer { padding-left: 14px; padding-right: 14px; }
  header { padding-top: 26px; }
  h1 { font-size: 23px; }
  section { padding: 18px 16px 20px; border-radius: 12px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tile { padding: 12px 13px; } .tile .figure { font-size: 21px; }
  .scroll { margin: 12px -16px 0; padding: 0 16px; }
  .wide { display: none; } .narrow { display: block; max-width: 480px; }
  dl.facts { grid-template-columns: 1fr; } dl.facts > dt { border-bottom: 0; padding-bottom: 0; }
  dl.facts > dd { padding-top: 0; } dl.facts > dt:nth-last-child(2) { border-bottom: 0; }
}
@media print {
  @page { margin: 14mm; }
  body { background: #fff; font-size: 10pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main, header, footer { max-width: none; padding-left: 0; padding-right: 0; }
  header { padding-top: 0; } nav { display: none; }
  section { padding: 0; border: 0; border-radius: 0; margin-top: 22px; }
  figure, .tile, .notice, tr, dl.facts > * { break-inside: avoid; } h2, h3, .lead { break-after: avoid; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 6px; } .tile { padding: 8px 10px; }
  .tile .figure { font-size: 14pt; } h1 { font-size: 18pt; } thead th { font-size: 7.5pt; }
  .scroll { overflow: visible; margin-left: 0; margin-right: 0; padding: 0; } table { font-size: 7.5pt; }
  th, td { padding: 3px 5px; } .bar { min-width: 30px; } td.text { min-width: 0; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
"""
