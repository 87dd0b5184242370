import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { loadSchema } from '../../src/config/schema.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const lines = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, ['scripts/lines.mjs', ...words], { cwd: ROOT, encoding: 'utf8' })

test('every algorithm has a row, and its plumbing is the least of it', (t) => {
  const rows = lines()
    .stdout.trim()
    .split('\n')
    .slice(2)
    .map((row) => row.split('|').map((cell) => cell.trim().replaceAll('`', '')))
  // BC-Safe is BC by another name.
  const algorithms = Object.keys(loadSchema().algorithms).filter((name) => name !== 'bc_safe')
  t.deepEqual(
    rows.map(([, name]) => name),
    algorithms.toSorted(),
  )
  for (const [, name, own, plumbing] of rows) {
    t.true(Number(own) > 50, `${name}: ${own} lines of its own`)
    t.true(Number(plumbing) > 10 && Number(plumbing) < 70, `${name}: ${plumbing} lines of plumbing`)
  }
})

test('what is asked for otherwise is refused', (t) => {
  const { status, stderr } = lines('--since', 'HEAD')
  t.is(status, 1)
  t.regex(stderr, /usage: node scripts\/lines\.mjs \[--at COMMIT\]/)
})
