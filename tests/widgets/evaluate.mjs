// Evaluates functions of nbs/_widgets/sparse.js. Standard input: a list of [name, arguments]; standard output: their results.
import {readFileSync} from 'node:fs';
import * as sparse from '../../nbs/_widgets/sparse.js';

function autoencode(path, model, settings) {       // the examples of the page, through one of its models
  const bytes = readFileSync(path);
  const {tensors} = sparse.readSafetensors(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const network = sparse.autoencoder(tensors, model), [n, d] = tensors.examples.shape;
  return Array.from({length: n}, (_, k) => {
    const pixels = Float64Array.from(tensors.examples.data.subarray(k*d, (k + 1)*d), v => v/255);
    const code = sparse.lista(network, sparse.normalize(pixels, settings)), made = sparse.toPixels(sparse.decode(network, code), settings);
    return {code, made, psnr: sparse.psnr(pixels, made), sparsity: sparse.sparsity(code)};
  });
}
const functions = {...sparse, autoencode};
const cases = JSON.parse(readFileSync(0, 'utf-8'));
const plain = (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
process.stdout.write(JSON.stringify(cases.map(([name, given]) => functions[name](...given)), plain));
