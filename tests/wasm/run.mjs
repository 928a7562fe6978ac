// Run a Python program in Pyodide, with a folder as its working directory.
// usage: node run.mjs PYODIDE PROGRAM FOLDER WHEEL...    (PYODIDE is the folder of the npm package)
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [packageFolder, program, folder, ...wheels] = process.argv.slice(2).map((path) => resolve(path));
const { loadPyodide } = await import(pathToFileURL(join(packageFolder, "pyodide.mjs")));
try {
  const pyodide = await loadPyodide({ indexURL: packageFolder });
  await pyodide.loadPackage(wheels.map((wheel) => pathToFileURL(wheel).href), { messageCallback: () => {} });
  pyodide.mountNodeFS("/folder", folder);
  pyodide.FS.chdir("/folder");
  pyodide.runPython(readFileSync(program, "utf8"), { filename: program });
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
