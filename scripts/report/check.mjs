// Takes screenshots of a report at the width of a phone and of a desk, light and dark, prints it, and runs axe on each.
//
//   npm install --ignore-scripts && node check.mjs REPORT.html OUTPUT_FOLDER
//
// It needs Chromium: on the path, or named by CHROMIUM. It fails on serious and critical faults, on a page that is wider than
// its window, and on anything the page tries to load.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import puppeteer from 'puppeteer-core';

const [report, output] = process.argv.slice(2);
if (!output) {
  console.error('usage: node check.mjs REPORT.html OUTPUT_FOLDER');
  process.exit(2);
}
mkdirSync(output, { recursive: true });

const executablePath = process.env.CHROMIUM ?? execFileSync('sh', ['-c', 'command -v chromium || command -v google-chrome']).toString().trim();
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const browser = await puppeteer.launch({ executablePath, args: ['--no-sandbox', '--hide-scrollbars'] });
const faults = [];

for (const colours of ['light', 'dark']) {
  for (const width of [390, 1280]) {
    const name = `${colours}-${width}`;
    const page = await browser.newPage();
    // axe itself is a script that the page's own policy would refuse.
    await page.setBypassCSP(true);
    await page.setViewport({ width, height: width === 390 ? 844 : 900, deviceScaleFactor: width === 390 ? 2 : 1 });
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: colours }]);
    page.on('request', (request) => {
      if (!/^(file|data):/.test(request.url())) faults.push(`${name}: loads ${request.url()}`);
    });
    page.on('console', (message) => {
      if (message.type() === 'error') faults.push(`${name}: ${message.text()}`);
    });
    await page.goto(pathToFileURL(resolve(report)));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (overflow > 0) faults.push(`${name}: the page is ${overflow} pixels wider than its window`);
    await page.screenshot({ path: join(output, `${name}.png`), fullPage: true });
    // What is folded away has to be as good.
    await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
    await page.addScriptTag({ path: axe });
    const found = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
    for (const { id, impact, help, nodes } of found.violations) {
      const places = nodes.slice(0, 3).map((node) => node.target.join(' ')).join(', ');
      const line = `${name}: ${impact}: ${id}: ${help} (${nodes.length} times: ${places})`;
      console.log(line);
      if (impact === 'serious' || impact === 'critical') faults.push(line);
    }
    console.log(`${name}: axe passed ${found.passes.length} rules, found fault with ${found.violations.length}`);
    if (name === 'light-1280') {
      await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = false; }));
      writeFileSync(join(output, 'print.pdf'), await page.pdf({ format: 'A4', preferCSSPageSize: true }));
    }
    await page.close();
  }
}
await browser.close();

if (faults.length > 0) {
  console.error(`${faults.length} faults:\n${faults.join('\n')}`);
  process.exit(1);
}
console.log('no serious fault');
