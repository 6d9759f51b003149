// A plugin of TypeDoc: gives every guide the title of its Markdown file, and a place in the site's navigation.

import { Converter } from "typedoc";

/** What each group of pages is for; the order of pages is that of typedoc.json. */
const groups = [
  { title: "Project", names: /^(CONTRIBUTING|CHANGELOG)/ },
  { title: "Background", names: /(format|performance|gpu|demo)$/ },
  { title: "Guides", names: /./ },
];
const modules = { index: "rvq", cluster: "rvq/cluster" };

export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    document.frontmatter.group = groups.find(({ names }) => names.test(document.name)).title;
    // What of the first heading comes before a colon.
    const [heading] = textOf(document.content).trimStart().split("\n");
    document.name = heading.replace(/^# /, "").replace(/: .*/, "");
  });
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const module of project.children ?? []) module.name = modules[module.name] ?? module.name;
    // The page of the README has the project's name as its title already.
    const [first] = project.readme ?? [];
    if (first !== undefined) first.text = first.text.replace(/^\s*# .*\n/, "");
  });
}

function textOf(parts) {
  return parts
    .map(({ text }) => text)
    .join("")
    .replaceAll("`", "");
}
