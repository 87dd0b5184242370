#!/usr/bin/env node
import { pathToFileURL } from 'node:url'
import { realpathSync } from 'node:fs'
import yargs, { type Argv } from 'yargs'
import { DrcorlError, codeOf, messageOf, toDrcorlError } from '../base/errors.js'
import { printable, printableStyled } from '../base/text.js'
import { VERSION } from '../base/version.js'
import { nearest } from '../config/admit.js'
import { loadSchema } from '../config/schema.js'
import { conversionHint } from '../data/dataset.js'
import type { Arguments, Command, Output, Stream } from './command.js'
import { benchmarkCommand } from './commands/benchmark.js'
import { calibrateCommand } from './commands/calibrate.js'
import { certifyCommand } from './commands/certify.js'
import { dataCommand } from './commands/data.js'
import { demoCommand } from './commands/demo.js'
import { doctorCommand } from './commands/doctor.js'
import { envsCommand } from './commands/envs.js'
import { evaluateCommand } from './commands/evaluate.js'
import { exportCommand } from './commands/export.js'
import { infoCommand } from './commands/info.js'
import { listCommand } from './commands/list.js'
import { reportCommand } from './commands/report.js'
import { studyCommand } from './commands/study.js'
import { theoryCommand } from './commands/theory.js'
import { torchCommand } from './commands/torch.js'
import { trainCommand } from './commands/train.js'
import { normaliseFlags } from './parameters.js'

const COMMANDS: readonly Command[] = [
  trainCommand,
  evaluateCommand,
  certifyCommand,
  exportCommand,
  envsCommand,
  dataCommand,
  listCommand,
  infoCommand,
  doctorCommand,
  torchCommand,
  reportCommand,
  demoCommand,
  benchmarkCommand,
  studyCommand,
  theoryCommand,
  calibrateCommand,
]

interface Selection {
  command: Command
  args: Arguments
}

/** Where output goes; the process's own streams unless a test puts others in their place. */
interface Streams {
  stdout: Stream
  stderr: Stream
}

/**
 * Runs one command line.
 *
 * @param argv arguments after the program's name.
 * @returns the exit status: 0 done, 2 bad input, 3 not certified, 130 interrupted, 1 anything else.
 */
export async function main(argv: readonly string[], streams: Streams = process): Promise<number> {
  const json = argv.includes('--json')
  const { stdout } = streams
  try {
    const words = commandOf(argv)?.takesParameters ? normaliseFlags(argv, loadSchema()) : [...argv]
    const selection = parse(words, stdout.columns ?? 100)
    if ('help' in selection) {
      stdout.write(`${selection.help}\n`)
      return 0
    }
    const output = await execute(selection, json, streams.stderr)
    stdout.write(json ? `${JSON.stringify(output.json)}\n` : `${printableStyled(output.text.trimEnd())}\n`)
    return output.status ?? 0
  } catch (error) {
    return fail(toDrcorlError(error), json, streams)
  }
}

/** The command and its arguments, or the text of --help or --version. */
function parse(argv: string[], width: number): Selection | { help: string } {
  let selected: Selection | undefined
  let help = ''
  const parser = yargs(argv)
    .scriptName('drcorl')
    .usage('$0 <command>\n\nConstrained offline reinforcement learning: a safe policy from a dataset and a cost limit.')
    .locale('en')
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    })
    .option('json', { boolean: true, describe: 'Print one JSON object on stdout and nothing else there' })
    .version(VERSION)
    .help()
    .strict()
    .demandCommand(1, 'no command is given')
    .wrap(Math.min(110, width))
    .fail((message: string, error: unknown) => {
      // yargs throws its own refusals here too, as YError.
      throw error instanceof Error && error.name !== 'YError' ? error : usageError(message || messageOf(error), argv)
    })
  for (const command of COMMANDS) register(parser, command, argv, (args) => (selected = { command, args }))
  // With a callback yargs neither prints nor exits.
  parser.parse(argv, {}, (_error: unknown, _args: unknown, output: string) => {
    help = output
  })
  return selected ?? { help }
}

function register(parser: Argv, command: Command, argv: readonly string[], select: (args: Arguments) => unknown): void {
  let lists: readonly string[] = []
  const variadic = [...command.command.matchAll(/[<[](\w+)\.\.[>\]]/g)].map(([, name = '']) => name)
  parser.command({
    command: command.command,
    describe: command.describe,
    builder(commandYargs: Argv) {
      const built = command.builder?.(commandYargs, argv) ?? commandYargs
      lists = optionsOf(built).array
      return built
    },
    handler: (args) => void select(lastOfRepeated(args, [...lists, ...variadic])),
  })
}

/** Of an option given twice the last counts, but `lists` keep all they were given. */
function lastOfRepeated(args: Arguments, lists: readonly string[]): Arguments {
  const entries = Object.entries(args).map(([name, value]): [string, unknown] => {
    const isOne = Array.isArray(value) && name !== '_' && !lists.includes(name)
    return [name, isOne ? value.at(-1) : value]
  })
  return Object.fromEntries(entries)
}

/** What yargs knows of the options declared; its types leave it out. */
const optionsOf = (parser: Argv): { key: Record<string, unknown>; array: string[] } =>
  (parser as Argv & { getOptions(): ReturnType<typeof optionsOf> }).getOptions()

/** One line from what yargs says, with the nearest known name where a name is unknown. */
function usageError(message: string, argv: readonly string[]): DrcorlError {
  const line = message.trim().replace(/\s*\n\s*/g, ' ')
  const command = commandOf(argv)
  const hint = `see: drcorl${command === undefined ? '' : ` ${nameOf(command)}`} --help`
  const unknown = /^Unknown (?:argument|command)s?: ([^,]+)/.exec(line)?.[1]
  if (unknown === undefined) return new DrcorlError('Usage', line, { hint })
  if (argv.some((argument) => argument.replace(/=[^]*$/, '') === `--${unknown}`)) {
    const guess = nearest(unknown, knownFlags(command, argv))
    return new DrcorlError('Usage', `unknown option --${unknown}${guess ? `; did you mean --${guess}?` : ''}`, { hint })
  }
  if (command !== undefined) {
    const file = /\.\w+$/.test(unknown) && knownFlags(command, argv).includes('dataset')
    const named = conversionHint(unknown) ?? `name the data: drcorl ${nameOf(command)} --dataset ${unknown}`
    return new DrcorlError('Usage', `unknown argument "${unknown}"`, { hint: file ? named : hint })
  }
  const guess = nearest(unknown, COMMANDS.map(nameOf))
  return new DrcorlError('Usage', `unknown command "${unknown}"${guess ? `; did you mean ${guess}?` : ''}`, { hint })
}

function commandOf(argv: readonly string[]): Command | undefined {
  const name = argv.find((argument) => !argument.startsWith('-'))
  return COMMANDS.find((command) => nameOf(command) === name)
}

function nameOf(command: Command): string {
  return command.command.split(' ')[0] ?? ''
}

function knownFlags(command: Command | undefined, argv: readonly string[]): string[] {
  const probe = yargs([])
  command?.builder?.(probe, argv)
  return ['json', ...Object.keys(optionsOf(probe).key)]
}

async function execute({ command, args }: Selection, json: boolean, stderr: Stream): Promise<Output> {
  const controller = new AbortController()
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const release = (): void => signals.forEach((signal) => void process.removeListener(signal, interrupt))
  const interrupt = (): void => {
    // With the listeners gone, a second signal kills the process as if there had never been any.
    release()
    stderr.write('\ninterrupted: stopping in good order (once more to stop at once)\n')
    controller.abort()
  }
  if (command.interruptible) signals.forEach((signal) => process.on(signal, interrupt))
  try {
    return await command.run(args, { json, signal: controller.signal, stderr })
  } finally {
    release()
  }
}

function fail(error: DrcorlError, json: boolean, { stdout, stderr }: Streams): number {
  const { code, message, hint } = error
  if (json) {
    stdout.write(`${JSON.stringify({ error: { code, message, ...(hint === undefined ? {} : { hint }) } })}\n`)
  } else {
    stderr.write(printable(`error: ${message}\n${hint === undefined ? '' : `  ${hint}\n`}`))
    // An error nobody foresaw is a fault of the program: the trace belongs in the bug report.
    if (code === 'Internal' && error.cause instanceof Error) stderr.write(`${error.cause.stack}\n`)
  }
  return error.exitStatus
}

/** A reader that closes its end early (`drcorl list | head`) is no error. */
function quietBrokenPipes(): void {
  process.stdout.on('error', (error) => {
    if (codeOf(error) !== 'EPIPE') throw error
    process.exit()
  })
  process.stderr.on('error', (error) => {
    if (codeOf(error) !== 'EPIPE') throw error
  })
}

const invoked = process.argv[1]
if (invoked !== undefined && import.meta.url === pathToFileURL(realpathSync(invoked)).href) {
  quietBrokenPipes()
  process.exitCode = await main(process.argv.slice(2))
}
