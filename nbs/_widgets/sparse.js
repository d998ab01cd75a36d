// The mathematics of the pieces on these pages, apart from their drawing. Every function has a twin in the Python library,
// and tests/test_widgets.py compares the two. Vectors are arrays of numbers; matrices are flat, row after row.

const sum = x => x.reduce((a, b) => a + b, 0);
const dot = (x, y) => { let s = 0; for (let i = 0; i < x.length; i++) s += x[i]*y[i]; return s; };
export const l1 = z => sum(Array.from(z, Math.abs));

// Shrinkage: towards zero by alpha, and no further; negative values are cut off unless positive is false.
export const shrink = (v, alpha, positive = true) =>
  positive ? Math.max(v - alpha, 0) : Math.sign(v)*Math.max(Math.abs(v) - alpha, 0);

// ---- the hinge, for the n codes of one component ----

export const mean = z => sum(z)/z.length;
export function deviation(z) {                     // unbiased, as in the library
  const m = mean(z);
  return Math.sqrt(sum(z.map(v => (v - m)**2))/(z.length - 1));
}
export const hinge = (z, T) => Math.max(T - deviation(z), 0)**2;
export function hingeGradient(z, T) {              // zero where all codes are equal
  const m = mean(z), s = deviation(z);
  const stretch = s > 0 ? -2/(z.length - 1)*Math.max(T - s, 0)/s : 0;
  return z.map(v => stretch*(v - m));
}

// The energy of a batch whose codes are divided by c and whose atoms are multiplied by c, but for the reconstruction term,
// which stays. `size` is the l1 norm of the whole batch at c = 1, `deviations` those of its components.
export function scaledEnergy(c, {size, deviations}, {lam, beta, T}) {
  const price = lam*size/c, charge = beta*sum(deviations.map(s => Math.max(T - s/c, 0)**2));
  return {l1: price, hinge: charge, total: price + charge};
}

// ---- matrices ----

export function multiply(A, rows, cols, x) {       // A x
  const y = new Float64Array(rows);
  for (let i = 0; i < rows; i++) { let s = 0; for (let j = 0; j < cols; j++) s += A[i*cols + j]*x[j]; y[i] = s; }
  return y;
}
export function transposed(A, rows, cols, y) {     // A' y
  const x = new Float64Array(cols);
  for (let i = 0; i < rows; i++) if (y[i]) for (let j = 0; j < cols; j++) x[j] += A[i*cols + j]*y[i];
  return x;
}

// ---- inference ----

export function energy({D, d, l, y, lam}, z) {     // 1/d |y - D z|^2 + lam |z|_1
  const e = multiply(D, d, l, z).map((v, i) => v - y[i]);
  return dot(e, e)/d + lam*l1(z);
}
export function gradient({D, d, l, y}, z) {        // of the first term: 2/d D'(D z - y)
  return transposed(D, d, l, multiply(D, d, l, z).map((v, i) => v - y[i])).map(g => 2/d*g);
}
export function lipschitz({D, d, l}, turns = 200) { // largest eigenvalue of 2/d D'D, by power iteration
  let v = new Float64Array(l).fill(1).map((_, i) => 1 + i/7), L = 0;
  for (let k = 0; k < turns; k++) {
    const w = transposed(D, d, l, multiply(D, d, l, v)).map(x => 2/d*x);
    L = Math.sqrt(dot(w, w));
    v = w.map(x => x/L);
  }
  return L;
}

// FISTA with a fixed step. Returns all codes, the start first.
export function fista(problem, {step, iterations, momentum = true, restart = false, start = null}) {
  let z = Float64Array.from(start ?? new Float64Array(problem.l)), x = z, t = 1;
  const codes = [z];
  for (let k = 0; k < iterations; k++) {
    const g = gradient(problem, x), next = x.map((v, j) => shrink(v - step*g[j], step*problem.lam));
    const moved = next.map((v, j) => v - z[j]);
    let later = (1 + Math.sqrt(1 + 4*t*t))/2, ahead = momentum ? (t - 1)/later : 0;
    if (restart && dot(x.map((v, j) => v - next[j]), moved) > 0) { later = 1; ahead = 0; }
    x = next.map((v, j) => v + ahead*moved[j]);
    z = next; t = later;
    codes.push(z);
  }
  return codes;
}

// ---- learning a dictionary, as the paper does: infer codes for a batch, then take a step of Adam ----

// FISTA on a batch of n images, from zero codes, with the hinge. Y is (n, d), W is (d, l); returns Z (n, l).
export function inferBatch({W, d, l, lam, beta, T}, Y, n, {step, iterations}) {
  const H = new Float64Array(l*l), B = new Float64Array(n*l);
  for (let i = 0; i < d; i++) for (let j = 0; j < l; j++) {
    const w = 2/d*W[i*l + j];
    for (let k = 0; k < l; k++) H[j*l + k] += w*W[i*l + k];
    for (let p = 0; p < n; p++) B[p*l + j] += w*Y[p*d + i];
  }
  let Z = new Float64Array(n*l), X = Z, t = 1;
  for (let k = 0; k < iterations; k++) {
    const pull = new Float64Array(l), mu = new Float64Array(l);
    if (beta) for (let j = 0; j < l; j++) {
      const column = Float64Array.from({length: n}, (_, p) => X[p*l + j]), s = deviation(column);
      mu[j] = mean(column);
      if (s > 1e-12) pull[j] = -2*beta/(n - 1)*Math.max(T - s, 0)/s;
    }
    const next = new Float64Array(n*l), later = (1 + Math.sqrt(1 + 4*t*t))/2, ahead = (t - 1)/later, point = new Float64Array(n*l);
    for (let p = 0; p < n; p++) for (let j = 0; j < l; j++) {
      let g = -B[p*l + j] + pull[j]*(X[p*l + j] - mu[j]);
      for (let i = 0; i < l; i++) g += H[j*l + i]*X[p*l + i];
      const v = shrink(X[p*l + j] - step*g, step*lam);
      next[p*l + j] = v; point[p*l + j] = v + ahead*(v - Z[p*l + j]);
    }
    Z = next; X = point; t = later;
  }
  return Z;
}
// Gradient of the mean squared error 1/(n d) |Z W' - Y|^2 in W.
export function dictionaryGradient({W, d, l}, Z, Y, n) {
  const G = new Float64Array(d*l);
  for (let p = 0; p < n; p++) for (let i = 0; i < d; i++) {
    let e = -Y[p*d + i];
    for (let j = 0; j < l; j++) e += Z[p*l + j]*W[i*l + j];
    for (let j = 0; j < l; j++) G[i*l + j] += 2/(n*d)*e*Z[p*l + j];
  }
  return G;
}
// One step of Adam in place; `memory` is {} before the first.
export function adam(memory, W, G, rate) {
  memory.t = (memory.t ?? 0) + 1;
  memory.m ??= new Float64Array(W.length); memory.v ??= new Float64Array(W.length);
  for (let i = 0; i < W.length; i++) {
    memory.m[i] = .9*memory.m[i] + .1*G[i]; memory.v[i] = .999*memory.v[i] + .001*G[i]**2;
    W[i] -= rate*memory.m[i]/(1 - .9**memory.t)/(Math.sqrt(memory.v[i]/(1 - .999**memory.t)) + 1e-8);
  }
  return W;
}
// The toy world: n images of side x side pixels, each the sum of three of 2 side bars of length 1, with strengths in [1, 2].
export function bars(n, side, random) {
  const l = 2*side, d = side*side, Y = new Float64Array(n*d), D = new Float64Array(d*l);
  for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) { D[(i*side + j)*l + i] = D[(i*side + j)*l + side + j] = 1/Math.sqrt(side); }
  for (let p = 0; p < n; p++) {
    const chosen = new Set();
    while (chosen.size < 3) chosen.add(Math.floor(l*random()));
    for (const j of chosen) { const z = 1 + random(); for (let i = 0; i < d; i++) Y[p*d + i] += z*D[i*l + j]; }
  }
  return {Y, D};
}
// How many bars have an atom that points their way.
export function found({D, W, d, l}, least = .9) {
  let count = 0;
  for (let b = 0; b < l; b++) {
    let best = 0;
    for (let j = 0; j < l; j++) {
      let s = 0, w = 0;
      for (let i = 0; i < d; i++) { s += D[i*l + b]*W[i*l + j]; w += W[i*l + j]**2; }
      if (w > 0) best = Math.max(best, Math.abs(s)/Math.sqrt(w));
    }
    if (best > least) count++;
  }
  return count;
}

// ---- a trained autoencoder ----

// LISTA: u = U'y + b, then z = relu(u), and L times z = relu(S z + u). U is (d, l), S is (l, l).
export function lista({U, S, b, d, l, L = 3}, y) {
  const u = transposed(U, d, l, y).map((v, j) => v + b[j]), relu = v => Math.max(v, 0);
  let z = u.map(relu);
  for (let k = 0; k < L; k++) z = multiply(S, l, l, z).map((v, j) => relu(v + u[j]));
  return z;
}
export const decode = ({W, d, l}, z) => multiply(W, d, l, z);           // W is (d, l)

export const normalize = (pixels, {shift, scale}) => Float64Array.from(pixels, p => (p - shift)/scale);
export const toPixels = (image, {shift, scale}) => Float64Array.from(image, v => v*scale + shift);
export const sparsity = z => Array.from(z).filter(v => v === 0).length/z.length;
export function psnr(a, b) {                       // decibels, for pixels between 0 and 1
  const e = Array.from(a, (v, i) => v - b[i]);
  return -10*Math.log10(dot(e, e)/e.length);
}

// Standard normal numbers that are the same whenever the seed is: mulberry32, and pairs by Box and Muller.
export function uniforms(seed = 0) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6D2B79F5) >>> 0;
    let r = Math.imul(state ^ (state >>> 15), 1 | state);
    r = (r + Math.imul(r ^ (r >>> 7), 61 | r)) ^ r;
    return ((r ^ (r >>> 14)) >>> 0)/4294967296;
  };
}
export function normal(count, seed = 0) {
  const uniform = uniforms(seed);
  return Float64Array.from({length: count}, () => Math.sqrt(-2*Math.log(1 - uniform()))*Math.cos(2*Math.PI*uniform()));
}

// ---- files ----

const KINDS = {F32: Float32Array, I8: Int8Array, U8: Uint8Array};
export function readSafetensors(buffer) {          // name -> {shape, data}
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const {__metadata__: metadata = {}, ...header} = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensors = {};
  for (const [name, {dtype, shape, data_offsets: [from, to]}] of Object.entries(header)) {
    tensors[name] = {shape, data: new KINDS[dtype](buffer.slice(8 + length + from, 8 + length + to))};
  }
  return {tensors, metadata};
}
// Whole numbers between -127 and 127 times a scale for each column.
export function dequantize(whole, scales) {
  const cols = scales.data.length;
  return Float32Array.from(whole.data, (v, i) => v*scales.data[i % cols]);
}
export function autoencoder(tensors, name) {       // what `lista` and `decode` want, of one model in a file of tools/site/widgets.py
  const weight = part => dequantize(tensors[`${name}.${part}`], tensors[`${name}.${part}.scale`]);
  const [d, l] = tensors[`${name}.W`].shape;
  return {W: weight('W'), U: weight('U'), S: weight('S'), b: tensors[`${name}.b`].data, d, l};
}
