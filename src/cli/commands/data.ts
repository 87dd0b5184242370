import type { Argv } from 'yargs'
import { DrcorlError } from '../../base/errors.js'
import type { Arguments, Command, Context, Output } from '../command.js'
import { convertAction } from './data/convert.js'
import { fetchAction } from './data/fetch.js'
import { filterAction } from './data/filter.js'
import { infoAction } from './data/info.js'
import { recordAction } from './data/record.js'
import { splitAction } from './data/split.js'

/** One word after `data`. */
export interface DataAction {
  /** What its words are, for the usage line. */
  usage: string
  /** Names of its positional words: required ones first, the optional in brackets. */
  words: readonly string[]
  describe: string
  options: Parameters<Argv['options']>[0]
  run(args: Arguments, context: Context): Promise<Output>
}

const ACTIONS: Readonly<Record<string, DataAction>> = {
  info: infoAction,
  fetch: fetchAction,
  filter: filterAction,
  split: splitAction,
  convert: convertAction,
  record: recordAction,
}

/** Words after the action; which there may be, each action says. */
const WORDS = ['source', 'output']

export const dataCommand: Command = {
  command: `data <action> [${WORDS.join('] [')}]`,
  describe: 'Look at, fetch, filter, split, convert and record datasets',
  interruptible: true,

  builder(yargs, argv) {
    const word = argv[argv.indexOf('data') + 1] ?? ''
    const asked = Object.hasOwn(ACTIONS, word) ? ACTIONS[word] : undefined
    yargs.positional('action', { choices: Object.keys(ACTIONS), describe: 'What to do' })
    for (const name of WORDS) yargs.positional(name, { type: 'string', describe: describeWord(name) })
    // An action knows its own options only; the help of all shows the options of all.
    const shown = asked === undefined ? Object.values(ACTIONS) : [asked]
    const usage = shown.map(({ usage: line, describe }) => `$0 data ${line}\n    ${describe}`)
    yargs.usage(usage.join('\n'))
    for (const action of shown) yargs.options(action.options)
    return yargs
  },

  async run(args, context) {
    const action = ACTIONS[String(args['action'])]!
    checkWords(action, args)
    return action.run(args, context)
  },
}

function describeWord(word: string): string {
  const of = Object.entries(ACTIONS).flatMap(([name, { words }]) =>
    words.flatMap((text, index) => (WORDS[index] === word ? [`${name}: ${text}`] : [])),
  )
  return of.join('; ')
}

function checkWords({ usage, words }: DataAction, args: Arguments): void {
  const hint = `drcorl data ${usage}`
  WORDS.forEach((word, index) => {
    const wanted = words[index]
    const given = args[word] !== undefined
    if (given && wanted === undefined)
      throw new DrcorlError('Usage', `unknown argument "${String(args[word])}"`, { hint })
    if (!given && wanted !== undefined && !wanted.startsWith('[')) {
      throw new DrcorlError('Usage', `no ${wanted} is given`, { hint })
    }
  })
}
