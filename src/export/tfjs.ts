/**
 * A policy as a TensorFlow.js layers model: `model.json` and `weights.bin`, raw observations [batch, S] to actions in
 * the box [batch, A]. Only Dense and ReLU layers, which every backend has and computes alike.
 */
import { concat } from '../base/protobuf.js'
import { VERSION } from '../base/version.js'
import { type Layer, type Mlp, transposed, unconditionedLayers } from '../policy/mlp.js'
import { TFJS_FILES } from './names.js'
import { settingsMetadata } from './onnx.js'

interface Dense extends Layer {
  name: string
  activation: 'linear' | 'relu' | 'tanh'
}

type LayerConfig = { class_name: string; config: Record<string, unknown> }

/** Contents of the files, by name. The settings in force are part of the model. */
export function writeTfjs(mlp: Mlp): Record<(typeof TFJS_FILES)[keyof typeof TFJS_FILES], Uint8Array> {
  const dense = [center(mlp), ...network(mlp), box(mlp)]
  const configs = dense.map(denseConfig)
  // min(max(x + 1, 0), 2) is clamp(x, -1, 1) + 1; the last network layer adds the 1.
  if (mlp.squash === 'clamp') configs.splice(-1, 0, layerConfig('ReLU', { name: 'clamp', max_value: 2 }))
  configs[0]!.config['batch_input_shape'] = [null, mlp.obs_dim]
  const weights = dense.flatMap((layer) => {
    const { name, inputs, outputs, bias } = layer
    return [
      { spec: { name: `${name}/kernel`, shape: [inputs, outputs], dtype: 'float32' }, values: transposed(layer) },
      { spec: { name: `${name}/bias`, shape: [outputs], dtype: 'float32' }, values: bias },
    ]
  })
  const model = {
    format: 'layers-model',
    generatedBy: `drcorl ${VERSION}`,
    convertedBy: null,
    modelTopology: {
      class_name: 'Sequential',
      config: { name: 'policy', layers: configs },
      keras_version: '2.2.4',
      backend: 'tensor_flow.js',
    },
    weightsManifest: [{ paths: [TFJS_FILES.weights], weights: weights.map(({ spec }) => spec) }],
    userDefinedMetadata: { ...mlp.metadata, ...settingsMetadata(mlp) },
  }
  const data = weights.map(({ values }) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
  return {
    [TFJS_FILES.model]: new TextEncoder().encode(`${JSON.stringify(model, null, 1)}\n`),
    [TFJS_FILES.weights]: concat(data),
  }
}

function layerConfig(class_name: string, config: Record<string, unknown>): LayerConfig {
  return { class_name, config: { ...config, trainable: true, dtype: 'float32' } }
}

function denseConfig({ name, outputs, activation }: Dense): LayerConfig {
  // Loading draws initial weights before it reads ours: zeros cost nothing.
  const zeros = { class_name: 'Zeros', config: {} }
  const initializers = { kernel_initializer: zeros, bias_initializer: zeros }
  return layerConfig('Dense', { name, units: outputs, activation, use_bias: true, ...initializers })
}

/**
 * observation - mean. The subtraction comes first: inside the first layer it would cancel digits where std is small.
 */
function center({ obs_dim, mean }: Mlp): Dense {
  const weight = diagonal(new Float32Array(obs_dim).fill(1))
  return { name: 'center', activation: 'linear', inputs: obs_dim, outputs: obs_dim, weight, bias: mean.map((m) => -m) }
}

/** The network, with the division by std in the first layer's weights. */
function network(mlp: Mlp): Dense[] {
  const layers = unconditionedLayers(mlp)
  const last = layers.length - 1
  return layers.map((layer, index) => {
    const weight = index === 0 ? layer.weight.map((w, i) => w / mlp.std[i % mlp.obs_dim]!) : layer.weight
    const clamps = index === last && mlp.squash === 'clamp'
    const bias = clamps ? layer.bias.map((value) => value + 1) : layer.bias
    const activation = index < last ? 'relu' : clamps ? 'linear' : 'tanh'
    return Object.assign({}, layer, { name: `actor_${index}`, activation, weight, bias }) as Dense
  })
}

/** What the network gives, mapped to the box. */
function box({ act_dim, low, high, squash }: Mlp): Dense {
  const [scale, offset] = [new Float32Array(act_dim), new Float32Array(act_dim)]
  for (let i = 0; i < act_dim; i += 1) [scale[i], offset[i]] = intoBox(low[i]!, high[i]!, squash === 'tanh' ? -1 : 0)
  return { name: 'box', activation: 'linear', inputs: act_dim, outputs: act_dim, weight: diagonal(scale), bias: offset }
}

/**
 * Scale and offset that map [from, from + 2] to [low, high] in float32. Rounding is monotone, so a value is in the box
 * if those at both ends are; where an end would round out of the box,
 * the scale gives way by a few units of its last place.
 */
export function intoBox(low: number, high: number, from: -1 | 0): [scale: number, offset: number] {
  const f32 = Math.fround
  const offset = from === 0 ? low : f32((low + high) / 2)
  let scale = f32((high - low) / 2)
  const inside = (at: number): boolean => {
    const value = f32(offset + f32(scale * at))
    return value >= low && value <= high
  }
  for (let shrink = 2 ** -24; !inside(from) || !inside(from + 2); shrink *= 2) scale = f32(scale * (1 - shrink))
  return [scale, offset]
}

function diagonal(values: Float32Array): Float32Array {
  const matrix = new Float32Array(values.length ** 2)
  for (const [i, value] of values.entries()) matrix[i * values.length + i] = value
  return matrix
}
