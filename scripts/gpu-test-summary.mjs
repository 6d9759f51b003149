// Prints vitest's result in a few lines: what failed and why, and the counts, which also go to file descriptor 3.
//
//   node scripts/gpu-test-summary.mjs results.json   exit 1 where a test failed or none passed

import fs from "node:fs";

const mostFailures = 30;
const mostCharacters = 240;

const file = process.argv[2];
const result = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : {};
const { numPassedTests: passed = 0, numFailedTests: failed = 0, numPendingTests: skipped = 0 } = result;
const suites = result.testResults ?? [];

const failures = suites.flatMap(({ name, message, assertionResults }) => {
  const file = name.split("/").slice(-2).join("/");
  const tests = assertionResults.filter(({ status }) => status === "failed");
  // A file that could not be loaded has no tests, only a message.
  if (tests.length === 0) return message ? [`${file}: ${message}`] : [];
  return tests.map(({ fullName, failureMessages }) => `${file}: ${fullName}: ${failureMessages[0] ?? ""}`);
});
for (const failure of failures.slice(0, mostFailures)) console.log(failure.split("\n")[0].slice(0, mostCharacters));
if (failures.length > mostFailures) console.log(`… and ${failures.length - mostFailures} more failures`);

const counts = `${passed} passed, ${failed} failed, ${skipped} skipped, ${suites.length} files`;
console.log(counts);
try {
  fs.writeSync(3, `${counts}\n`);
} catch {
  // Run by hand: nobody listens.
}
process.exitCode = passed === 0 || failed > 0 || failures.length > 0 ? 1 : 0;
