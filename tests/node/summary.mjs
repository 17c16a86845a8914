// Shows Markdown as GitHub does, its Mermaid blocks drawn by the real library in a real browser, and prints what it saw as JSON.
//
//   node summary.mjs FILE.md… [--picture FILE.png]     (CHROMIUM is the browser's program; the picture is of the first file)
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { marked } from 'marked';
import { chromium } from 'playwright-core';

const files = process.argv.slice(2);
const at = files.indexOf('--picture');
const picture = at < 0 ? undefined : files.splice(at, 2)[1];
const library = await readFile(createRequire(import.meta.url).resolve('@mermaid-js/tiny/dist/mermaid.tiny.js'), 'utf8');
const style = `
  body { font: 14px/1.5 "DejaVu Sans", sans-serif; color: #1f2328; background: #fff; width: 880px; margin: 24px; }
  table { border-collapse: collapse; margin-bottom: 16px; } th, td { border: 1px solid #d1d9e0; padding: 6px 13px; }
  th { text-align: start; } code { background: #eff1f3; padding: 2px 5px; font-size: 12px; } h3 { border-bottom: 1px solid #d1d9e0; }
  details { margin-bottom: 8px; } .mermaid { text-align: center; margin-bottom: 16px; }`;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const saw = [];
for (const [number, file] of files.entries()) {
  const page = await browser.newPage({ viewport: { width: 928, height: 800 } });
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => errors.push(`request: ${request.url()}`));
  const blocks = [];
  const renderer = {
    code({ text, lang }) {
      if (lang !== 'mermaid') return false;
      blocks.push(text);
      return '<div class="mermaid"></div>';
    },
  };
  marked.use({ renderer });
  const html = marked.parse(await readFile(file, 'utf8'));
  await page.setContent(`<!doctype html><meta charset="utf-8"><style>${style}</style>${html}`);
  if (blocks.length > 0) await page.addScriptTag({ content: library });
  const drawn = blocks.length === 0 ? [] : await page.evaluate(async (blocks) => {
    mermaid.initialize({ startOnLoad: false });
    const places = [...document.querySelectorAll('.mermaid')];
    const drawn = [];
    for (const [number, text] of blocks.entries()) {
      try {
        const { svg } = await mermaid.render(`block-${number}`, text);
        places[number].innerHTML = svg;
        const { width, height } = places[number].firstElementChild.getBoundingClientRect();
        drawn.push({ text: places[number].textContent, width, height });
      } catch (error) {
        drawn.push({ error: String(error) });
      }
    }
    return drawn;
  }, blocks);
  if (picture && number === 0) await page.screenshot({ path: picture, fullPage: true });
  saw.push({ file, drawn, errors, text: await page.evaluate(() => document.body.innerText) });
  await page.close();
}
await browser.close();
console.log(JSON.stringify(saw));
