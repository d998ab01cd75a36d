// Draw a digit: the trained encoders and decoders of SDL and VDL, in the page.
import {autoencoder, decode, lista, normal, normalize, psnr, readSafetensors, sparsity, toPixels} from './sparse.js';
import {button, data, el, figure, output, picture, slider, symmetric} from './ui.js';

const SIDE = 28, MNIST = {shift: .1307, scale: .3081};

export async function mount(stage) {
  const {tensors, metadata} = readSafetensors(await (await fetch(data('digits.safetensors'))).arrayBuffer());
  const models = Object.keys(JSON.parse(metadata.lam)), lam = JSON.parse(metadata.lam), told = output();
  const networks = Object.fromEntries(models.map(name => [name, autoencoder(tensors, name)]));
  const example = k => Float64Array.from(tensors.examples.data.subarray(k*784, (k + 1)*784), v => v/255);
  const state = {pixels: example(3), sigma: 0, pen: [14, 14], down: false};
  const paper = picture(SIDE, 'A field of 28 by 28 pixels to draw on. Arrow keys move the pen, space draws.', 8), seen = picture(SIDE, 'What the encoder is given', 4);
  paper.node.classList.add('w-pen'); paper.node.tabIndex = 0; paper.node.setAttribute('role', 'application');
  const panels = Object.fromEntries(models.map(name => {
    const made = picture(SIDE, `Reconstruction by ${name}`, 4), atoms = el('div', {class: 'w-atoms'}), words = el('p', {class: 'w-words'});
    return [name, {made, atoms, words, node: el('section', {class: 'w-model'}, el('h3', {}, `${name}, λ = ${lam[name]}`), el('div', {class: 'w-row'}, figure('reconstruction', made.node)), words, atoms)}];
  }));

  function stroke([row, col]) {                        // a soft dot, two pixels wide
    for (let i = 0; i < SIDE; i++) for (let j = 0; j < SIDE; j++) {
      const ink = Math.min(1, Math.max(0, 1.9 - Math.hypot(i + .5 - row, j + .5 - col)));
      state.pixels[i*SIDE + j] = Math.max(state.pixels[i*SIDE + j], ink);
    }
  }
  function centre() {                                  // as MNIST's digits are: the centre of mass in the middle
    let all = 0, r = 0, c = 0;
    state.pixels.forEach((v, k) => { all += v; r += v*Math.floor(k/SIDE); c += v*(k % SIDE); });
    const dr = Math.round(r/all - 13.5), dc = Math.round(c/all - 13.5), old = state.pixels;
    if (all) state.pixels = old.map((_, k) => { const i = Math.floor(k/SIDE) + dr, j = k % SIDE + dc; return i >= 0 && j >= 0 && i < SIDE && j < SIDE ? old[i*SIDE + j] : 0; });
    draw();
  }
  function show(name, input) {
    const network = networks[name], {made, atoms, words} = panels[name], z = lista(network, input), image = toPixels(decode(network, z), MNIST);
    const active = Array.from(z.keys()).filter(j => z[j] > 0).sort((a, b) => z[b] - z[a]), quality = psnr(state.pixels, image);
    made.paint(image, 0, 1);
    words.textContent = `${active.length} of ${z.length} atoms are active (${(100*sparsity(z)).toFixed(0)} % zeros). PSNR ${quality.toFixed(1)} dB. The strongest:`;
    atoms.replaceChildren(...active.slice(0, 12).map(j => {
      const values = Array.from({length: 784}, (_, i) => network.W[i*network.l + j]), tile = picture(SIDE, `atom ${j}`, 2);
      tile.paint(values, ...symmetric(values));
      return el('div', {class: 'w-atom'}, tile.node, el('div', {class: 'w-bar', style: `width: ${(100*z[j]/z[active[0]]).toFixed(0)}%`}), z[j].toFixed(2));
    }));
    return `${name}: ${active.length} active atom${active.length === 1 ? '' : 's'}, ${quality.toFixed(1)} dB`;
  }
  function draw() {
    const noise = normal(784, 1), input = normalize(state.pixels, MNIST).map((v, i) => v + state.sigma*noise[i]);
    paper.node.parentElement.classList.toggle('w-empty', !state.pixels.some(v => v > 0));
    paper.paint(state.pixels, 0, 1); seen.paint(toPixels(input, MNIST), 0, 1);
    const noisy = state.sigma ? ` The noisy image itself has ${psnr(state.pixels, toPixels(input, MNIST)).toFixed(1)} dB.` : '';
    told.textContent = models.map(name => show(name, input)).join('; ') + ', both against the image without noise.' + noisy;
  }
  const at = event => { const box = paper.node.getBoundingClientRect(); return [(event.clientY - box.top)/box.height*SIDE, (event.clientX - box.left)/box.width*SIDE]; };
  paper.node.addEventListener('pointerdown', event => { paper.node.setPointerCapture(event.pointerId); state.pen = at(event); stroke(state.pen); draw(); });
  paper.node.addEventListener('pointermove', event => {
    if (!paper.node.hasPointerCapture(event.pointerId)) return;
    const to = at(event), from = state.pen, far = Math.ceil(2*Math.hypot(to[0] - from[0], to[1] - from[1])) || 1;
    for (let k = 1; k <= far; k++) stroke([from[0] + k/far*(to[0] - from[0]), from[1] + k/far*(to[1] - from[1])]);
    state.pen = to; draw();
  });
  paper.node.addEventListener('keydown', event => {
    const by = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!by && event.key !== ' ') return;
    event.preventDefault();
    if (by) state.pen = state.pen.map((v, k) => Math.min(27, Math.max(1, v + by[k])));
    if (event.key === ' ') state.down = !state.down;
    if (state.down) stroke(state.pen);
    draw();
    const context = paper.node.getContext('2d');
    context.fillStyle = state.down ? '#F59B4B' : '#62B8EE'; context.fillRect(Math.floor(state.pen[1]), Math.floor(state.pen[0]), 1, 1);
  });
  const digits = el('div', {class: 'w-controls', role: 'group', 'aria-label': 'Test digits of MNIST'}, 'or take one of MNIST: ',
    Array.from({length: 10}, (_, k) => button(String(k), () => { state.pixels = example(k); draw(); })));
  stage.append(
    el('div', {class: 'w-row'}, el('figure', {}, paper.node, el('figcaption', {}, 'Draw here. With the keyboard: arrows move the pen, space lowers and lifts it.')),
      figure('what the encoder is given', seen.node)),
    el('div', {class: 'w-controls'}, button('clear', () => { state.pixels = new Float64Array(784); state.down = false; draw(); }), button('centre', centre),
      slider('noise σ', {min: 0, max: 2, step: .1, value: 0}, v => { state.sigma = v; draw(); }, v => v.toFixed(1))),
    digits, told, el('div', {class: 'w-row'}, models.map(name => panels[name].node)));
  draw();
}
