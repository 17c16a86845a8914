// Opens a dashboard in a real browser, as a file and over HTTP, in light and dark, narrow and wide, and prints what it saw as JSON.
//
//   node dashboard.mjs FOLDER [FOLDER-FOR-PICTURES]     (CHROMIUM is the browser's program)
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { chromium } from 'playwright-core';

const [folder, pictures] = process.argv.slice(2);
const saw = { errors: [], requests: [], views: {} };
const server = createServer(async (request, response) => {
  saw.requests.push(request.url);
  try {
    const body = await readFile(path.join(folder, request.url === '/' ? 'index.html' : path.basename(request.url)));
    response.writeHead(200, { 'content-type': request.url === '/' ? 'text/html' : 'application/octet-stream' }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const address = `http://127.0.0.1:${server.address().port}/`;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

const views = [['light', 1280], ['dark', 1280], ['light', 400], ['dark', 400]];
for (const [colorScheme, width] of views) {
  const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 } });
  page.on('console', (message) => saw.errors.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => saw.errors.push(String(error)));
  page.on('requestfailed', (request) => saw.errors.push(`failed: ${request.url()}`));
  await page.goto(address, { waitUntil: 'networkidle' });
  const view = await page.evaluate(() => {
    const style = (selector) => getComputedStyle(document.querySelector(selector));
    const of = (selector) => [...document.querySelectorAll(selector)];
    return {
      back: style('body').backgroundColor,
      width: document.documentElement.scrollWidth,
      text: document.body.innerText,
      // Charts as a screen reader names them.
      charts: of('svg[role=img]').map((svg) => document.getElementById(svg.getAttribute('aria-labelledby'))?.textContent ?? ''),
      plots: of('.plot svg').map((svg) => svg.getBoundingClientRect().width),
      bars: of('.plot path.a, .plot path.b').map((path) => getComputedStyle(path).fill),
      regions: of('[role=region]').map((region) => region.getAttribute('aria-label')),
      headings: of('h1, h2, h3').map((heading) => heading.tagName),
      ids: of('[id]').map((element) => element.id),
    };
  });
  // By keyboard: what the tabulator reaches, and a table that Enter opens.
  const reached = [];
  for (let count = 0; count < 60; count += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const { tagName, className } = document.activeElement;
      return tagName === 'BODY' ? null : `${tagName}.${className}`;
    });
    if (at === null) break;
    reached.push(at);
    if (at === 'SUMMARY.' && !view.opened) {
      await page.keyboard.press('Enter');
      view.opened = await page.evaluate(() => document.activeElement.parentElement.open && document.activeElement.parentElement.innerText);
    }
  }
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = false; }));
  if (pictures) {
    await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
    if (colorScheme === 'light' && width > 1000) {
      await page.setViewportSize({ width: 1280, height: 2120 });
      await page.screenshot({ path: path.join(pictures, 'dashboard.png') });
    }
    await page.screenshot({ path: path.join(pictures, `dashboard-${colorScheme}-${width}.png`), fullPage: true });
  }
  saw.views[`${colorScheme}-${width}`] = { ...view, reached };
  if (pictures && colorScheme === 'light' && width > 1000) {
    await page.pdf({ path: path.join(pictures, 'dashboard.pdf'), format: 'A4' });
  }
  await page.close();
}

// The policy holds: what an attacker would add is not run and not loaded.
const page = await browser.newPage();
await page.goto(address);
const refused = [];
page.on('console', (message) => refused.push(message.text()));
saw.policy = await page.evaluate(async () => {
  const script = document.createElement('script');
  script.textContent = 'window.ran = true';
  document.body.append(script);
  const image = new Image();
  const loaded = new Promise((done) => { image.onload = () => done(true); image.onerror = () => done(false); });
  image.src = '/badge.svg';
  return { ran: window.ran === true, loaded: await loaded };
});
saw.policy.refused = refused.length;
await browser.close();
server.close();
console.log(JSON.stringify(saw));
