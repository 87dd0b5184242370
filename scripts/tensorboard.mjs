// `node scripts/tensorboard.mjs`: the Python package that the test of event files reads them back with, in
// target/tensorboard. A user needs it only to look at the files. Running it again does only what is out of date.
import { join } from 'node:path'
import { pipInstall } from './lib/python.mjs'
import { fail, ROOT, runSteps } from './lib/run.mjs'

const PACKAGE = 'tensorboard==2.21.0'
const FOLDER = join(ROOT, 'target/tensorboard')

const STEPS = [['tensorboard', 'the Python package', () => pipInstall('tensorboard', [PACKAGE], FOLDER, 'tensorboard')]]

runSteps(STEPS, 'tensorboard ready in').catch(fail)
