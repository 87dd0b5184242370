import type { Schema } from '../../src/config/schema.js'

/** A small schema with every form schemars 1.x writes: refs, enums as consts, options, bounds, lists. */
export const FIXTURE: Schema = {
  results: { schema: {} },
  run: {
    schema: {
      type: 'object',
      additionalProperties: false,
      required: ['cost_limit'],
      properties: {
        seed: {
          type: 'integer',
          format: 'uint64',
          minimum: 0,
          maximum: Number.MAX_SAFE_INTEGER,
          default: 0,
          description: 'Seed of\neverything.',
        },
        cost_limit: { type: 'number', format: 'double', minimum: 0, description: 'Largest cost of an episode.' },
        device: { type: 'string', pattern: '^(auto|cpu)$', default: 'auto' },
        episode_length: { type: ['integer', 'null'], format: 'uint', minimum: 1, default: null },
      },
    },
  },
  algorithms: {
    drcorl: {
      label: 'DRCORL',
      summary: 'diffusion-regularised constrained offline RL',
      metrics: [],
      diagnostics: null,
      takes_limit: false,
      pretraining: null,
      presets: {
        quick: {
          summary: 'minutes',
          run: { cost_limit: 10 },
          config: { behavior_steps: 8000, gate: 'max' },
          tasks: {},
        },
        paper: {
          summary: 'days',
          run: {},
          config: { behavior_steps: 2000000 },
          tasks: { BallCircle: { behavior_steps: 3000000, gamma: 0.95 } },
        },
      },
      schema: {
        type: 'object',
        additionalProperties: false,
        properties: {
          behavior_steps: { type: 'integer', format: 'uint64', minimum: 1, maximum: 1e9, default: 100 },
          gamma: { type: 'number', minimum: 0, exclusiveMaximum: 1, default: 0.99 },
          gate: { $ref: '#/$defs/Gate', default: 'critic_ucb', description: 'Which estimate opens the gate.' },
          normalise: { type: 'boolean', default: true },
          hidden: { type: 'array', items: { type: 'integer', minimum: 1 }, default: [256, 256] },
          pid: {
            type: 'array',
            items: { type: 'number' },
            minItems: 3,
            maxItems: 3,
            default: [0.5, 0, 0],
          },
          clip: { anyOf: [{ $ref: '#/$defs/Clip' }, { type: 'null' }], default: null },
        },
        $defs: {
          Gate: {
            oneOf: [
              { type: 'string', const: 'critic_ucb', description: 'The paper.' },
              { type: 'string', const: 'max', description: 'The larger\nof both.' },
            ],
          },
          Clip: { type: 'string', enum: ['value', 'norm'] },
        },
      },
    },
    bc: {
      label: 'BC',
      summary: 'behavior cloning',
      metrics: [],
      diagnostics: null,
      takes_limit: false,
      pretraining: null,
      presets: {},
      schema: {
        type: 'object',
        additionalProperties: false,
        properties: { bc_steps: { type: 'integer', minimum: 1, default: 50 } },
      },
    },
  },
}
