// What TypeScript calls readonly, kept so where JavaScript assigns.

/** The object, whose properties of these names an assignment no longer changes: calls rely on them. */
export function makeReadOnly<Target extends object>(target: Target, names: readonly (keyof Target)[]): void {
  for (const name of names) {
    const value = target[name];
    Object.defineProperty(target, name, {
      value: Array.isArray(value) ? Object.freeze(value) : value,
      writable: false,
    });
  }
}
