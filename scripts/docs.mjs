// Fills the generated parts of README.md and docs/: tables of parameters and metrics from src/config/schema.json,
// examples from their files, the picture of the rooms from their imports.
// A part stands between <!-- generated: KIND ARGUMENT --> and <!-- end generated -->; what lies between is replaced.
// With --check nothing is written: it fails and names the files that differ.
import '@oxc-node/core/register'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { picture } from './lib/rooms.mjs'
import { fail, ROOT, StepError } from './lib/run.mjs'

// The TypeScript itself, not dist/: help texts and tables read the schema by the same code.
const { allowedValues, parametersOf } = await import('../src/config/schema.ts')

const PART = /(<!-- generated: (\w+)(?: (\S+))? -->\n)[^]*?(<!-- end generated -->)/g

const schema = JSON.parse(readFileSync(join(ROOT, 'src/config/schema.json'), 'utf8'))

const code = (value) => `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
const cell = (text) => text.replaceAll('|', '\\|')

function table(header, rows) {
  const line = (cells) => `| ${cells.map(cell).join(' | ')} |`
  return [line(header), `|${'---|'.repeat(header.length)}`, ...rows.map(line)].join('\n')
}

function algorithm(name) {
  const found = schema.algorithms[name]
  if (found === undefined) throw new StepError(`no algorithm is called ${name} in src/config/schema.json`)
  return found
}

/** What a parameter means and accepts, with the meaning of each choice where it has choices. */
function meaning(parameter) {
  const { choices, description } = parameter
  if (choices.length === 0) return `${description} (${allowedValues(parameter)})`
  const lines = choices.map((choice) => [code(choice.value), choice.description].filter(Boolean).join(': '))
  return [description, ...lines].join('<br>')
}

/** A column for the defaults, and one for each preset that changes any of these parameters. */
function parameterTable(parameters, presets) {
  const changing = Object.entries(presets).filter(([, values]) => parameters.some(({ name }) => name in values))
  const rows = parameters.map((parameter) => [
    code(parameter.name),
    code(parameter.default ?? null),
    ...changing.map(([, values]) => (parameter.name in values ? code(values[parameter.name]) : '')),
    meaning(parameter),
  ])
  return table(['parameter', 'default', ...changing.map(([name]) => name), 'meaning'], rows)
}

const valuesOf = (presets, part) =>
  Object.fromEntries(Object.entries(presets).map(([name, preset]) => [name, preset[part]]))

/** One entry a kind of part. */
const KINDS = {
  /** `parameters run` or `parameters ALGORITHM`. */
  parameters(name) {
    if (name === 'run') return parameterTable(parametersOf(schema.run.schema), {})
    const { schema: own, presets } = algorithm(name)
    return parameterTable(parametersOf(own), valuesOf(presets, 'config'))
  },

  /** `metrics ALGORITHM`: what metrics.csv holds, in the order of its columns. */
  metrics(name) {
    const rows = algorithm(name).metrics.map(({ name: metric, role, unit, meaning }) => [
      code(metric),
      role,
      unit === '1' ? '' : unit,
      meaning,
    ])
    return table(['metric', 'role', 'unit', 'meaning'], rows)
  },

  /** `later ALGORITHM`: what runs that share a pretraining may differ in. */
  later(name) {
    const { later, unless } = algorithm(name).pretraining
    const but = unless.map(({ parameter, other, value, why }) => {
      return `${code(parameter)} must agree all the same where ${code(other)} is ${code(value)}, which ${why}.`
    })
    return [`${later.map(code).join(', ')}.`, ...but].join('\n\n')
  },

  /** `run_presets`: which preset changes which parameter of the run. */
  run_presets() {
    const changes = Object.entries(schema.algorithms).flatMap(([name, { presets }]) =>
      Object.entries(presets).map(([preset, { summary, run }]) => [
        code(name),
        code(preset),
        summary,
        Object.entries(run)
          .map(([key, value]) => code(`${key}: ${JSON.stringify(value)}`))
          .join(', ') || 'none',
      ]),
    )
    return table(['algorithm', 'preset', 'meant for', 'parameters of the run it changes'], changes)
  },

  /** `rooms`: which room imports which. */
  rooms: picture,

  /** `file PATH`: a source file as a code block. */
  file(path) {
    const language = { ts: 'ts', rs: 'rust', mjs: 'js' }[path.split('.').at(-1)] ?? ''
    return `\`\`\`${language}\n${readFileSync(join(ROOT, path), 'utf8').trimEnd()}\n\`\`\``
  },
}

function pages() {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true }).map((name) => join('docs', name))
  return ['README.md', ...docs.filter((name) => name.endsWith('.md')).toSorted()].filter((name) =>
    existsSync(join(ROOT, name)),
  )
}

/** The page with every generated part made anew. */
function fill(page, text) {
  return text.replaceAll(PART, (_, begin, kind, argument, end) => {
    const make = KINDS[kind]
    if (make === undefined) throw new StepError(`${page}: no generated part is called ${kind}`)
    return `${begin}${make(argument)}\n${end}`
  })
}

try {
  const stale = []
  for (const page of pages()) {
    const text = readFileSync(join(ROOT, page), 'utf8')
    const fresh = fill(page, text)
    if (fresh === text) continue
    stale.push(page)
    if (!process.argv.includes('--check')) writeFileSync(join(ROOT, page), fresh)
  }
  if (stale.length === 0) console.log('the generated parts of the documentation are up to date')
  else if (process.argv.includes('--check')) {
    throw new StepError(`out of date: ${stale.join(', ')}. Run node scripts/docs.mjs.`)
  } else console.log(`wrote ${stale.join(', ')}`)
} catch (error) {
  fail(error)
}
