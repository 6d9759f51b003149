// Checks the links of the Markdown files, and those of the docs site in docs/api/, which `npm run docs` makes: files and anchors must be
// there, addresses elsewhere well formed. Nothing leaves this machine.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { Parser } from "htmlparser2";

const root = path.resolve(import.meta.dirname, "..");
const site = path.join(root, "docs/api");
/** There are more; a check that saw fewer has looked at the wrong thing. */
const leastPages = 50;

checkMarkdown();
checkSite();

/** By the headings that GitHub makes anchors of. */
function checkMarkdown() {
  const remark = path.join(root, "node_modules/remark-cli/cli.js");
  const flags = ["--frail", "--quiet", "--no-stdout", "--use", "remark-validate-links=repository:false"];
  const files = fs.readdirSync(path.join(root, "docs")).filter((name) => name.endsWith(".md"));
  const places = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "examples/service/README.md"];
  const all = [...places, ...files.map((name) => `docs/${name}`)];
  const { status, error } = spawnSync(process.execPath, [remark, ...flags, ...all], { cwd: root, stdio: "inherit" });
  if (error !== undefined) throw error;
  if (status !== 0) process.exitCode = 1;
  else console.log(`check-links: ${all.length} Markdown files, all files and headings found`);
}

function checkSite() {
  const pages = new Map(pagesBelow(site).map((file) => [file, readPage(file)]));
  if (pages.size < leastPages)
    return complain(`expected ${leastPages} pages in docs/api, got ${pages.size} (npm run docs)`);
  let here = 0;
  let elsewhere = 0;
  for (const [file, { links }] of pages) {
    const page = path.relative(site, file);
    for (const link of links) {
      if (/^[a-z][a-z0-9+.-]*:/i.test(link)) {
        elsewhere++;
        if (!isWellFormed(link)) complain(`${page}: ${link} is no address`);
        continue;
      }
      here++;
      const [target, anchor] = link.split("#");
      const to = target === "" ? file : path.resolve(path.dirname(file), decodeURIComponent(target.split("?")[0]));
      if (!fs.existsSync(to)) complain(`${page}: ${link} is not there`);
      else if (anchor && pages.has(to) && !pages.get(to).anchors.has(decodeURIComponent(anchor))) {
        complain(`${page}: ${link} has no such anchor`);
      }
    }
  }
  console.log(`check-links: ${pages.size} pages, ${here} links to each other and ${elsewhere} elsewhere`);
}

function pagesBelow(folder) {
  const entries = fs.existsSync(folder) ? fs.readdirSync(folder, { recursive: true }) : [];
  return entries.filter((name) => name.endsWith(".html")).map((name) => path.join(folder, name));
}

function readPage(file) {
  const links = [];
  const anchors = new Set();
  const parser = new Parser({
    onopentag(_, attributes) {
      const { id, name, href, src } = attributes;
      if (id !== undefined) anchors.add(id);
      if (name !== undefined) anchors.add(name);
      links.push(...[href, src].filter((link) => link !== undefined));
    },
  });
  parser.end(fs.readFileSync(file, "utf8"));
  return { links, anchors };
}

function isWellFormed(link) {
  if (!URL.canParse(link)) return false;
  const { protocol, hostname } = new URL(link);
  return protocol === "https:" && /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(hostname);
}

function complain(message) {
  console.error(`check-links: ${message}`);
  process.exitCode = 1;
}
