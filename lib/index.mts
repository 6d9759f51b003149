// What `import` gives: the very module that `require` gives, under the names it exports.
//
// The library is compiled once, as CommonJS. A second compilation to ES modules would make a second set of classes, so
// that an error thrown by one copy fails `instanceof` in the other, and the addon's state would exist twice.

export * from "./index.js";
