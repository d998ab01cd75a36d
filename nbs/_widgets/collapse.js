// The collapse by hand: atoms times c, codes divided by c. The picture stays, the price falls, and the hinge stops it.
import {scaledEnergy} from './sparse.js';
import {chart, checkbox, data, el, figure, line, output, picture, slider, svg} from './ui.js';

const WEIGHTS = {lam: .02, beta: 10, T: .5}, LOW = .5, HIGH = 8;

export async function mount(stage) {
  const world = await (await fetch(data('collapse.json'))).json();
  const side = world.side, state = {c: 1, cure: false};
  const image = picture(side, 'The image, given', 10), made = picture(side, 'Its reconstruction, the same for every c', 10);
  image.paint(world.image, 0, .75);
  const bars = chart({width: 330, height: 170, x: [-.6, world.code.length - .4], y: [0, 4], label: 'The 16 components of the code, divided by c',
    xticks: [[0, '1'], [7, '8'], [15, '16']], yticks: [[0, '0'], [2, '2'], [4, '4']], xlabel: 'component', ylabel: 'code z / c'});
  const curve = chart({width: 360, height: 210, x: [LOW, HIGH], y: [0, 70], logx: true, label: 'What the batch pays, against c',
    xticks: [[.5, '½'], [1, '1'], [2, '2'], [4, '4'], [8, '8']], yticks: [[0, '0'], [30, '30'], [60, '60']], xlabel: 'c', ylabel: 'energy of the batch'});
  const told = output();

  const points = name => Array.from({length: 80}, (_, i) => LOW*(HIGH/LOW)**(i/79)).map(c => [curve.x(c), curve.y(scaledEnergy(c, world, WEIGHTS)[name])]);
  function draw() {
    const {c, cure} = state, paid = scaledEnergy(c, world, WEIGHTS);
    const atoms = world.atoms.map(v => v*c), code = world.code.map(v => v/c);
    made.paint(Array.from({length: side*side}, (_, i) => code.reduce((s, z, j) => s + atoms[i*code.length + j]*z, 0)), 0, .75);
    bars.layer.replaceChildren(...code.map((z, j) => svg('rect', {x: bars.x(j) - 6, width: 12, y: bars.y(z), height: bars.y(0) - bars.y(z), class: 'w-fill-inferred'})));
    const shown = cure ? 'total' : 'l1';
    curve.layer.replaceChildren(line(points('l1'), {class: cure ? 'w-faint' : 'w-line w-inferred'}),
      ...(cure ? [line(points('hinge'), {class: 'w-faint'}), line(points('total'), {class: 'w-line w-learned'})] : []),
      svg('circle', {cx: curve.x(c), cy: curve.y(paid[shown]), r: 6, class: cure ? 'w-fill-learned' : 'w-fill-inferred'}));
    told.textContent = `c = ${c.toFixed(2)}: the reconstruction error is unchanged. The l1 norm of this code is ${code.reduce((a, b) => a + b, 0).toFixed(2)}; `
      + `all 250 codes pay ${paid.l1.toFixed(1)} for theirs` + (cure ? `, and ${paid.hinge.toFixed(1)} to the hinge: ${paid.total.toFixed(1)} together.` : '.');
  }
  stage.append(
    el('div', {class: 'w-controls'},
      slider('scale c', {min: -1, max: 3, step: .05, value: 0}, v => { state.c = 2**v; draw(); }, v => (2**v).toFixed(2)),
      checkbox('add the hinge', false, on => { state.cure = on; draw(); })),
    el('div', {class: 'w-row'}, figure('image', image.node), figure('reconstruction', made.node), bars.node, curve.node), told);
  draw();
}
