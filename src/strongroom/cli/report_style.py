"""How the report page looks: light, dark, narrow and printed."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1a2230; --soft: #5a6577; --line: #dfe3ea;
  --accent: #23477a; --ok: #17693b; --ok-back: #e2f4e9; --no: #7a4a00; --no-back: #fdf0d5; --bad: #a31621; --bad-back:
  #fde6e8; }
@media (prefers-color-scheme: dark) { :root { --paper: #10141b; --card: #181e28; --ink: #e4e9f1; --soft: #9aa6b8;
  --line: #2b3442; --accent: #8fb6ee; --ok: #7fd8a2; --ok-back: #14321f; --no: #f0c26b; --no-back: #3a2a0c;
  --bad: #ff9aa2; --bad-back: #431a1e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
.brand { margin: 0; color: var(--accent); font-size: 12px; font-weight: 700; letter-spacing: .14em; text-transform:
  uppercase; }
h1 { margin: 4px 0 6px; font-size: 30px; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 0; font-size: 18px; }
.verdict { margin: 0; font-size: 16px; }
.made { color: var(--soft); margin-left: 8px; font-variant-numeric: tabular-nums; }
.note { margin: 2px 0 14px; color: var(--soft); }
.tallies { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 24px 0 0; }
.tally { display: flex; flex-direction: column; padding: 14px 16px; background: var(--card); border: 1px solid
  var(--line);
  border-radius: 10px; }
.tally dd { margin: 0; font-size: 26px; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tally dt { color: var(--soft); font-size: 13px; }
.tally.ok dd { color: var(--ok); } .tally.refused dd { color: var(--no); } .tally.failed dd { color: var(--bad); }
section { margin-top: 24px; padding: 22px 24px; background: var(--card); border: 1px solid var(--line); border-radius:
  10px; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { padding: 9px 12px 9px 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-top: 0; padding-top: 0; color: var(--soft); font-size: 12px; font-weight: 600; white-space: nowrap;
  }
tbody th { font-weight: 600; } td { overflow-wrap: anywhere; }
caption { padding: 0 0 10px; color: var(--soft); font-size: 13px; text-align: left; }
.dense th, .dense td { padding-top: 3px; padding-bottom: 3px; }
ul { margin: 0; padding-left: 20px; } li { margin: 4px 0; }
h3 { margin: 20px 0 6px; font-size: 15px; }
svg { display: block; width: 100%; max-width: 760px; height: auto; margin: 4px 0 18px;
  font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg .said { fill: var(--ink); font-weight: 600; }
svg .axis { stroke: var(--line); fill: none; } svg .limit { stroke: var(--bad); stroke-dasharray: 5 4; fill: none; }
svg .limit-said { fill: var(--bad); } svg .box { fill: var(--paper); stroke: var(--soft); }
svg .odd { fill: var(--no-back); stroke: var(--no); } svg .odd-said { fill: var(--no); font-weight: 600; }
svg .void { fill: none; stroke: var(--no); stroke-dasharray: 3 3; }
svg .line { stroke: var(--accent); stroke-width: 3; fill: none; } svg .moved { stroke: var(--no); }
svg .dot { fill: var(--soft); } svg .named { fill: var(--bad); } svg .named-said { fill: var(--bad); font-weight: 600; }
svg .bar { fill: var(--accent); fill-opacity: .45; } svg .bell { stroke: var(--bad); stroke-width: 2; fill: none; }
.kind { white-space: nowrap; } .sentence { margin: 8px 0 0; font-size: 19px; line-height: 1.4; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.number:first-child { text-align: left; color: var(--soft); }
thead th:last-child { text-align: inherit; }
.at { white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--soft); }
.detail { color: var(--soft); overflow-wrap: anywhere; }
.thing { overflow-wrap: anywhere; }
.badge { display: inline-block; padding: 1px 9px; border-radius: 999px; font-size: 12.5px; font-weight: 600;
  white-space: nowrap; }
.badge.ok { color: var(--ok); background: var(--ok-back); }
.badge.refused { color: var(--no); background: var(--no-back); }
.badge.failed { color: var(--bad); background: var(--bad-back); }
.denied .outcome { color: var(--no); font-weight: 600; }
.allowed .outcome { color: var(--ok); }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size:
  12.5px; }
pre { margin: 0; padding: 14px 16px; max-height: 420px; overflow: auto; background: var(--paper); border: 1px solid
  var(--line);
  border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: 14px; }
blockquote { margin: 10px 0 0; padding: 4px 0 4px 18px; border-left: 3px solid var(--accent); font: 17px/1.6 Georgia,
  "Times New Roman", serif;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.environment { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 10px 24px; margin: 0;
  }
.environment dt { color: var(--soft); font-size: 12.5px; }
.environment dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { main { padding: 20px 12px 40px; } section { padding: 16px; } table { min-width: 720px; } }
@media print { :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --accent: #23477a; --ok:
  #17693b;
  --ok-back: #fff; --no: #7a4a00; --no-back: #fff; --bad: #a31621; --bad-back: #fff; }
  main { max-width: none; padding: 0; } section, .tally { border-radius: 0; } section { padding: 12px 0; border-width:
  1px 0 0; }
  .tallies { grid-template-columns: repeat(5, 1fr); } .tally { padding: 8px 10px; }
  h2, .note { break-after: avoid; } tr, figure, .tally, svg { break-inside: avoid; }
  pre { max-height: none; } .wide { overflow: visible; }
  table { font-size: 10.5px; } .badge { padding: 0; } }
"""
