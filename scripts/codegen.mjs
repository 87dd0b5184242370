// Generated files: src/config/schema.json, types.ts and results.ts from the Rust types, index.d.ts from the crates of
// the addons. With --check nothing is written: it fails, with a diff, where a file differs from what the sources say.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { compile } from 'json-schema-to-typescript'
import { declarations } from './lib/declarations.mjs'
import { libtorchEnv } from './lib/libtorch.mjs'
import { fail, ROOT, runQuietly, StepError } from './lib/run.mjs'

const OUT = join(ROOT, 'target/codegen')

/** Generated file -> where a fresh one lies. */
const FILES = {
  'src/config/schema.json': 'target/codegen/schema.json',
  'src/config/types.ts': 'target/codegen/types.ts',
  'src/config/results.ts': 'target/codegen/results.ts',
  'index.d.ts': 'target/codegen/index.d.ts',
}

const pascal = (name) => name.replaceAll(/(?:^|[_-])(\w)/g, (_, letter) => letter.toUpperCase())

/** What `describe()` of the core says, as the Rust binary prints it. */
function describeCore() {
  // Without -p: cargo then takes the same features as for the addon, and need not compile the Torch bindings again.
  const args = ['run', '--release', '--quiet', '--bin', 'schema']
  const env = { ...process.env, ...libtorchEnv() }
  const run = spawnSync('cargo', args, { cwd: ROOT, env, encoding: 'utf8', maxBuffer: 1 << 28 })
  if (run.status !== 0) throw new StepError(`cargo ${args.join(' ')} failed:\n${run.stderr ?? run.error?.message}`)
  const description = JSON.parse(run.stdout)
  return description
}

/** Definitions by name, of which two with one name must be equal: one file of types can hold only one. */
class Definitions {
  all = {}

  add(name, schema) {
    if (name in this.all && !isDeepStrictEqual(this.all[name], schema)) {
      throw new StepError(`two different Rust types are called ${name}: rename one`)
    }
    this.all[name] = schema
  }

  /** Adds what a schema defines, and returns the schema by itself. */
  take({ $defs = {}, ...schema }) {
    delete schema.$schema
    for (const [name, definition] of Object.entries($defs)) this.add(name, definition)
    return schema
  }
}

/** One schema with a named definition for each config, and those they share. */
function configsOf(description) {
  const definitions = new Definitions()
  const configs = { run: description.run.schema }
  for (const [name, algorithm] of Object.entries(description.algorithms)) configs[name] = algorithm.schema
  for (const [name, schema] of Object.entries(configs)) {
    const title = `${pascal(name)}Config`
    definitions.add(title, { ...definitions.take(schema), title })
  }
  const { run, ...algorithms } = Object.fromEntries(
    Object.keys(configs).map((name) => [name, { $ref: `#/$defs/${pascal(name)}Config` }]),
  )
  const object = (properties) => ({
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  })
  return { ...object({ run, algorithms: object(algorithms) }), $defs: definitions.all }
}

/** References by themselves: one with a description beside it would become a type of its own. */
function alone(node) {
  if (Array.isArray(node)) return node.map(alone)
  if (typeof node !== 'object' || node === null) return node
  const { $ref, ...beside } = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, alone(value)]))
  if ($ref === undefined) return beside
  return Object.keys(beside).length === 0 ? { $ref } : { ...beside, allOf: [{ $ref }] }
}

/** One schema of all results; what an algorithm adds to a certificate is there or not. */
function resultsOf(description) {
  const definitions = new Definitions()
  const results = definitions.take(structuredClone(description.results.schema))
  const certificate = definitions.all.Certificate
  for (const [name, { diagnostics }] of Object.entries(description.algorithms)) {
    if (diagnostics === null) continue
    const { properties, title } = definitions.take(diagnostics)
    for (const [key, property] of Object.entries(properties)) {
      if (key in certificate.properties) throw new StepError(`${title}: a certificate has a ${key} already: rename it`)
      const description = [property.description, `Of ${name} only.`].filter(Boolean).join(' ')
      certificate.properties[key] = { ...property, description }
    }
  }
  return alone({ ...results, $defs: definitions.all })
}

/** A list of 1 to 8 numbers stays `number[]`, and is no union of eight tuples; one of 3 is a tuple. */
const withoutLengths = (key, value) => {
  if (value?.type !== 'array' || value.minItems === value.maxItems) return value
  const { minItems: _least, maxItems: _most, ...list } = value
  return list
}

const typescript = (schema, name, source) =>
  compile(JSON.parse(JSON.stringify(schema, withoutLengths)), name, {
    bannerComment: `// Generated by npm run codegen from ${source}. Do not edit.`,
    additionalProperties: false,
    style: { semi: false, singleQuote: true, printWidth: 120 },
  })

async function typesOf(description) {
  const body = await typescript(configsOf(description), 'Parameters', 'the Rust configs')
  const names = Object.keys(description.algorithms)
  return `${body}
/** Names of the registered algorithms. */
export type AlgorithmName = ${names.map((name) => `'${name}'`).join(' | ')}
`
}

function diff(file, fresh) {
  const run = spawnSync('diff', ['-u', file, fresh], { cwd: ROOT, encoding: 'utf8' })
  const lines = (run.stdout ?? '').split('\n')
  return lines.slice(0, 60).join('\n') + (lines.length > 60 ? `\n... ${lines.length - 60} more lines` : '')
}

async function main() {
  mkdirSync(OUT, { recursive: true })
  await runQuietly('cargo build', process.execPath, ['scripts/build-native.mjs'])
  const description = describeCore()
  writeFileSync(join(OUT, 'schema.json'), `${JSON.stringify(description, null, 2)}\n`)
  writeFileSync(join(OUT, 'types.ts'), await typesOf(description))
  const results = await typescript(resultsOf(description), 'Results', 'the Rust types of what a run tells and leaves')
  writeFileSync(join(OUT, 'results.ts'), results)
  writeFileSync(join(OUT, 'index.d.ts'), await declarations())

  const stale = Object.entries(FILES).filter(
    ([file, fresh]) =>
      !existsSync(join(ROOT, file)) ||
      readFileSync(join(ROOT, file), 'utf8') !== readFileSync(join(ROOT, fresh), 'utf8'),
  )
  if (process.argv.includes('--check')) {
    for (const [file, fresh] of stale) console.log(diff(file, fresh))
    if (stale.length > 0) {
      throw new StepError(`out of date: ${stale.map(([file]) => file).join(', ')}. Run npm run codegen.`)
    }
    console.log(`${Object.keys(FILES).length} generated files are up to date`)
    return
  }
  for (const [file, fresh] of stale) {
    mkdirSync(join(ROOT, file, '..'), { recursive: true })
    copyFileSync(join(ROOT, fresh), join(ROOT, file))
    console.log(`wrote ${file}`)
  }
  if (stale.length === 0) console.log('nothing to write, all generated files are up to date')
}

main().catch(fail)
