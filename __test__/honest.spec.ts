/** No test passes without having looked: what cannot run here is counted as skipped. */
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const OWN = '__test__/honest.spec.ts'

async function filesIn(folder: string, ending: string): Promise<string[]> {
  const names = await readdir(join(ROOT, folder), { recursive: true })
  return names.filter((name) => name.endsWith(ending)).map((name) => `${folder}/${name}`)
}

async function findings(files: readonly string[], forbidden: readonly RegExp[]): Promise<string[]> {
  const lines = await Promise.all(
    files.map(async (file) => {
      const text = await readFile(join(ROOT, file), 'utf8')
      return text.split('\n').flatMap((line, index) => {
        const isFound = forbidden.some((pattern) => pattern.test(line))
        return isFound ? [`${file}:${index + 1}: ${line.trim()}`] : []
      })
    }),
  )
  return lines.flat()
}

test('no assertion that cannot fail stands in a test', async (t) => {
  const files = (await filesIn('__test__', '.ts')).filter((file) => file !== OWN)
  t.true(files.length > 50, `${files.length} files were looked at`)
  const vacuous = [
    /\bt\.pass\(/,
    /\bt\.(true|assert|truthy)\((true|t|1)\)/,
    /\bt\.truthy\(event\.type\)/,
    /\^\(not \)\?/,
    // A case that is left out where the system has not what it needs; see test-if.ts.
    /process\.(platform|arch)\b.*(\? .* : |\{$)/,
    /^\s*if \(.*process\.(platform|arch|getuid)\b/,
  ]
  t.deepEqual(await findings(files, vacuous), [])
})

test('no test in Rust goes on quietly where something is absent', async (t) => {
  const crates = await readdir(join(ROOT, 'crates'))
  const files = (await Promise.all(crates.map((name) => filesIn(`crates/${name}`, '.rs')))).flat()
  t.true(files.length > 200, `${files.length} files were looked at`)
  const quiet = [
    /assert!\(true\b/,
    /e?println!\("(SKIP|skip)/,
    // Kernels and libraries that a machine has not are ignored trials: see crates/kernels/tests, crates/nn/tests.
    /\.filter\(available\)/,
    /return;?\s*\/\/.*(absent|not available|skip)/i,
  ]
  const found = await findings(files, quiet)
  // The runner of recorded steps prints what it leaves out, and counts it.
  t.deepEqual(
    found.filter((line) => !line.startsWith('crates/parity/src/main.rs:')),
    [],
  )
})
