// Which of the tools that compile the native addon this machine has, judged by PATH alone.

import fs from "node:fs";
import path from "node:path";

/** Names, for a message, of what is missing to compile the addon; empty where all is there. */
export function missingTools() {
  const missing = [];
  if (!onPath("cmake")) missing.push("cmake");
  // Visual Studio keeps its compiler off PATH; cmake-js finds it, or says that it cannot.
  if (process.platform === "win32") return missing;
  if (!onPath("g++") && !onPath("clang++")) missing.push("a C++ compiler (g++ or clang++)");
  if (!onPath("ninja") && !onPath("make")) missing.push("make or ninja");
  return missing;
}

/** Whether an executable file of this name is in one of PATH's folders. */
export function onPath(name) {
  const endings = process.platform === "win32" ? [".exe", ".cmd", ".bat"] : [""];
  const folders = (process.env.PATH ?? "").split(path.delimiter).filter((folder) => folder !== "");
  return folders.some((folder) => endings.some((ending) => isExecutable(path.join(folder, name + ending))));
}

function isExecutable(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}
