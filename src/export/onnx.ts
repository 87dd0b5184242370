/**
 * A policy as an ONNX model: input `observation` [batch, S], output `action` [batch, A], float32, raw observations to
 * actions in the box. Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
 */
import { type Mlp, unconditionedLayers } from '../policy/mlp.js'
import { VERSION } from '../base/version.js'
import { type Field, bytes, concat, integer, message, text } from '../base/protobuf.js'

/** Old enough for every runtime in use; Max and Min broadcast, and Clip takes its bounds as inputs. */
const OPSET = 13
const IR_VERSION = 7

/** TensorProto.DataType and AttributeProto.AttributeType. */
const FLOAT = 1
const INT = 2

/** Nodes in order, each reading what the one before it wrote, and the constants they read. */
class Graph {
  readonly nodes: Field[] = []
  readonly initializers: Field[] = []
  private value = 'observation'

  /**
   * Adds a node over the current value and constants, made here; the node's output is the current value from now on.
   */
  add(operator: string, constants: readonly Constant[] = [], attributes: Record<string, number> = {}, output?: string) {
    const name = `${this.nodes.length}.${operator.toLowerCase()}`
    const inputs = constants.map(({ role, shape, values }) => {
      this.initializers.push(tensor(`${name}.${role}`, shape, values))
      return `${name}.${role}`
    })
    const result = output ?? name
    const given = Object.entries(attributes).map(([key, value]) =>
      message(5, [text(1, key), integer(3, value), integer(20, INT)]),
    )
    const reads = [this.value, ...inputs].map((input) => text(1, input))
    this.nodes.push(message(1, [...reads, text(2, result), text(3, name), text(4, operator), ...given]))
    this.value = result
  }
}

interface Constant {
  role: string
  shape: readonly number[]
  values: Float32Array
}

const row = (role: string, values: Float32Array): Constant => ({ role, shape: [values.length], values })
const scalar = (role: string, value: number): Constant => ({ role, shape: [], values: Float32Array.of(value) })

/** The bytes of `policy.onnx`. The settings in force are part of the model. */
export function writeOnnx(mlp: Mlp): Uint8Array {
  const graph = new Graph()
  graph.add('Sub', [row('mean', mlp.mean)])
  graph.add('Div', [row('std', mlp.std)])
  const layers = unconditionedLayers(mlp)
  for (const [index, { inputs, outputs, weight, bias }] of layers.entries()) {
    graph.add('Gemm', [{ role: 'weight', shape: [outputs, inputs], values: weight }, row('bias', bias)], { transB: 1 })
    if (index < layers.length - 1) graph.add('Relu')
  }
  if (mlp.squash === 'tanh') graph.add('Tanh')
  else graph.add('Clip', [scalar('low', -1), scalar('high', 1)])
  // low + (unit + 1) (high - low) / 2, and into the box again what rounding carried out of it.
  graph.add('Add', [scalar('one', 1)])
  graph.add('Mul', [
    row(
      'half_width',
      mlp.high.map((high, i) => Math.fround(high - mlp.low[i]!) / 2),
    ),
  ])
  graph.add('Add', [row('low', mlp.low)])
  graph.add('Max', [row('low', mlp.low)])
  graph.add('Min', [row('high', mlp.high)], {}, 'action')
  const metadata = Object.entries({ ...mlp.metadata, ...settingsMetadata(mlp) })
  return concat([
    integer(1, IR_VERSION),
    text(2, 'drcorl'),
    text(3, VERSION),
    message(7, [
      ...graph.nodes,
      text(2, 'policy'),
      ...graph.initializers,
      message(11, valueInfo('observation', mlp.obs_dim)),
      message(12, valueInfo('action', mlp.act_dim)),
    ]),
    message(8, [text(1, ''), integer(2, OPSET)]),
    ...metadata.map(([key, value]) => message(14, [text(1, key), text(2, value)])),
  ])
}

/** The settings in force, by their names in the file's metadata. */
export function settingsMetadata({ settings }: Mlp): Record<string, string> {
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [`setting.${name}`, String(value)]))
}

/** TensorProto: dims, data type, name, little-endian bytes. */
function tensor(name: string, shape: readonly number[], values: Float32Array): Field {
  const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return message(5, [...shape.map((size) => integer(1, size)), integer(2, FLOAT), text(8, name), bytes(9, raw)])
}

/** ValueInfoProto of a float32 tensor [batch, size]. */
function valueInfo(name: string, size: number): Field[] {
  const shape = message(2, [message(1, [text(2, 'batch')]), message(1, [integer(1, size)])])
  return [text(1, name), message(2, [message(1, [integer(1, FLOAT), shape])])]
}
