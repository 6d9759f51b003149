// What `import` gives: the very module that `require` gives, as in lib/index.mts.

export * from "./index.js";
