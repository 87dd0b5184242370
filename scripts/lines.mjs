// Lines of code of every algorithm, as a table: `node scripts/lines.mjs [--at COMMIT]`. docs/architecture.md says what
// is counted.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fail, ROOT, StepError } from './lib/run.mjs'

/** Where algorithms were and are. */
const ROOMS = ['crates/algos/src', 'crates/core/src/algos']
const SHARED = new Set([
  'bin',
  'critics',
  'feasibility',
  'frame',
  'losses',
  'shared',
  'shared.rs',
  'mod.rs',
  'lib.rs',
  'frontier.rs',
  'lagrange.rs',
  'metrics.rs',
])
const TESTS = /(^|[_/])(tests|problem)\.rs$|\/tests\//
/** Blocks that tie an algorithm to the trainer, and what in them is its own all the same. */
const TIE = /^impl(<.*>)? (Define|Algorithm|ActorCritic) for /
const OWN = /^ {4}(pub )?(fn (new|build|draw|learn|step|presets)\b|const METRICS\b)/

/** The files of the room at a commit, or as they lie there: [path in the room, text]. */
function filesAt(commit) {
  if (commit === undefined) {
    const [room] = ROOMS
    const names = readdirSync(join(ROOT, room), { recursive: true }).filter((name) => name.endsWith('.rs'))
    return names.map((name) => [name, readFileSync(join(ROOT, room, name), 'utf8')])
  }
  const room = ROOMS.find((path) => git('ls-tree', '-d', '--name-only', commit, path).trim() !== '')
  if (room === undefined) throw new StepError(`${commit} has no algorithms in ${ROOMS.join(' or ')}`)
  const names = git('ls-tree', '-r', '--name-only', commit, `${room}/`)
    .split('\n')
    .filter((name) => name.endsWith('.rs'))
  return names.map((name) => [name.slice(room.length + 1), git('show', `${commit}:${name}`)])
}

function git(...words) {
  const { status, stdout, stderr } = spawnSync('git', words, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 26 })
  if (status !== 0) throw new StepError(`git ${words.join(' ')}: ${stderr.trim()}`)
  return stdout
}

/** Lines with code, without unit tests: [text, what they belong to]. */
export function classify(text) {
  const lines = text.split(/^#\[cfg\(test\)\]\nmod \w+ \{$/m)[0].split('\n')
  let [tied, own, importing, attribute] = [false, false, false, false]
  const found = []
  for (const line of lines) {
    if (TIE.test(line)) tied = true
    if (tied && OWN.test(line)) own = true
    if (/^(pub )?use /.test(line)) importing = true
    const trimmed = line.trim()
    if (/^#!?\[/.test(trimmed)) attribute = true
    const isCode = trimmed !== '' && !trimmed.startsWith('//') && !attribute
    if (isCode)
      found.push([line, importing || /^(pub )?mod \w+;$/.test(line) ? 'imports' : tied && !own ? 'plumbing' : 'own'])
    if (attribute && trimmed.endsWith(']')) attribute = false
    if (importing && line.endsWith(';')) importing = false
    if (own && (/^ {4}(\}|\];)$/.test(line) || (/^ {4}\S.*(\}|;)$/.test(line) && OWN.test(line)))) own = false
    if (line === '}') tied = own = false
  }
  return found
}

function table(files) {
  const algorithms = new Map()
  for (const [path, text] of files) {
    const [first] = path.split('/')
    if (SHARED.has(first) || TESTS.test(path)) continue
    const name = basename(first, '.rs')
    const counts = algorithms.get(name) ?? { own: 0, plumbing: 0, imports: 0, parameters: 0 }
    for (const [, kind] of classify(text)) counts[basename(path) === 'config.rs' ? 'parameters' : kind] += 1
    algorithms.set(name, counts)
  }
  const rows = [...algorithms]
    .toSorted()
    .map(([name, counts]) => `| \`${name}\` | ${Object.values(counts).join(' | ')} |`)
  return ['| | own | plumbing | imports | parameters |', '|---|---|---|---|---|', ...rows].join('\n')
}

try {
  const [flag, commit, ...rest] = process.argv.slice(2)
  if ((flag !== undefined && flag !== '--at') || (flag === '--at' && commit === undefined) || rest.length > 0) {
    throw new StepError('usage: node scripts/lines.mjs [--at COMMIT]')
  }
  console.log(table(filesAt(commit)))
} catch (error) {
  fail(error)
}
