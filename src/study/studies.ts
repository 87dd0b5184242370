/** The paper's figures that are grids of runs, a row each; and one's own, made of what is varied. */
import { published } from '../benchmark/published.js'

/** A grid of runs, and what its picture shows. */
export interface Study {
  /** Word of the command line. */
  name: string
  title: string
  /** The paper's. */
  figure: string
  /**
   * Axes as `--vary` takes them. The first is the horizontal axis of the picture; `cost_limit` is one too. Without any
   * only algorithms and seeds differ.
   */
  vary: readonly string[]
  /** Default those that have every parameter that is varied. */
  algorithms?: readonly string[]
  /** Watched while they train, unless asked otherwise: updates between two points, below 1 a share of all. */
  eval_every?: number
}

const CURVES = 0.05

/** What they take from the published numbers is read when it is asked for: every start of the CLI knows their names. */
export const STUDIES: readonly Study[] = [
  {
    name: 'cost-limit',
    title: 'Return and cost against the limit',
    figure: 'Figures 2b and 5',
    get vary() {
      return [`cost_limit=${published().figure_2b.cost_limits.join(',')}`]
    },
    get algorithms() {
      return published().figure_2b.algorithms
    },
  },
  {
    name: 'temperature',
    title: 'Courses of the temperature',
    figure: 'Figure 3',
    vary: ['beta_schedule=constant,sqrt,linear'],
    eval_every: CURVES,
  },
  {
    name: 'slack',
    title: 'Slack around the limit',
    figure: 'Figure 4',
    vary: ['slack_above+slack_below=0.1,0.3,0.5,0.7'],
    eval_every: CURVES,
  },
  {
    name: 'policy',
    title: 'Classes of policies',
    figure: 'the classes of appendix C.2, of which it draws none',
    vary: ['policy_class=dirac,gaussian_constant,gaussian'],
  },
  {
    name: 'critic',
    title: 'Kinds of cost critics and their pessimism',
    figure: 'the critics of its text, of which it draws none',
    vary: ['cost_critic=td,td_double,iql', 'pessimism=none,cql,target_ucb'],
  },
  {
    name: 'training-curves',
    title: 'Return and cost while policies are trained',
    figure: 'Figure 6',
    vary: [],
    eval_every: CURVES,
  },
]

/** The study that is no grid: times of decisions. */
export const INFERENCE = 'inference'

export const STUDY_NAMES: readonly string[] = [INFERENCE, ...STUDIES.map(({ name }) => name)]

/** What `--vary` alone makes. */
export const ownStudy = (vary: readonly string[]): Study => ({
  name: 'own',
  title: 'What was varied',
  figure: 'none of the paper',
  vary,
})
