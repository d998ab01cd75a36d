// Small helpers that the pieces share: elements, sliders, axes, grey pictures.
const SVG = 'http://www.w3.org/2000/svg';

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat());
  return node;
}
export const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

let count = 0;
export const unique = name => `${name}-${++count}`;

// A labelled slider. `show` writes its value; `change` is called with it.
export function slider(label, {min, max, step, value}, change, show = v => String(v)) {
  const id = unique('slider'), shown = el('span', {class: 'w-value'}, show(value));
  const input = el('input', {type: 'range', id, min, max, step, value, 'aria-label': label, 'aria-valuetext': show(value)});
  input.addEventListener('input', () => {
    const v = Number(input.value);
    shown.textContent = show(v); input.setAttribute('aria-valuetext', show(v));
    change(v);
  });
  return el('div', {class: 'w-slider'}, el('label', {for: id}, label), input, shown);
}
export function checkbox(label, checked, change) {
  const id = unique('box'), input = el('input', {type: 'checkbox', id, checked});
  input.addEventListener('change', () => change(input.checked));
  return el('span', {class: 'w-check'}, input, el('label', {for: id}, label));
}
export const button = (label, click) => el('button', {type: 'button', onclick: click}, label);
export function choice(label, options, value, change) {     // options: {value: text}
  const name = unique('choice');
  return el('fieldset', {class: 'w-choice'}, el('legend', {}, label), Object.entries(options).map(([key, text]) => {
    const id = unique('option'), input = el('input', {type: 'radio', id, name, value: key, checked: key === value});
    input.addEventListener('change', () => change(key));
    return el('span', {class: 'w-check'}, input, el('label', {for: id}, text));
  }));
}
export const output = () => el('output', {'aria-live': 'polite'});

// A drawing of width x height units with a margin for its axes. `x` and `y` turn data into units.
export function chart({width = 360, height = 240, x: [x0, x1], y: [y0, y1], label, xlabel = '', ylabel = '', xticks = [], yticks = [],
                       logx = false, logy = false}) {
  const left = yticks.length ? 46 : 12, right = 12, top = 12, bottom = xticks.length ? 40 : 12;
  const place = (v, a, b, log) => log ? (Math.log(v) - Math.log(a))/(Math.log(b) - Math.log(a)) : (v - a)/(b - a);
  const x = v => left + (width - left - right)*place(v, x0, x1, logx);
  const y = v => height - bottom - (height - top - bottom)*place(v, y0, y1, logy);
  const node = svg('svg', {viewBox: `0 0 ${width} ${height}`, class: 'w-chart', role: 'img', 'aria-label': label});
  const axes = svg('g', {class: 'w-axes', 'aria-hidden': 'true'});
  axes.append(svg('path', {d: `M${left},${top}V${height - bottom}H${width - right}`}));
  for (const [v, text] of xticks) axes.append(svg('text', {x: x(v), y: height - bottom + 15, 'text-anchor': 'middle'}, text));
  for (const [v, text] of yticks) axes.append(svg('text', {x: left - 5, y: y(v) + 4, 'text-anchor': 'end'}, text));
  axes.append(svg('text', {x: (left + width - right)/2, y: height - 6, 'text-anchor': 'middle', class: 'w-name'}, xlabel));
  axes.append(svg('text', {x: left + 5, y: top + 8, class: 'w-name'}, ylabel));
  node.append(axes);
  const layer = svg('g'); node.append(layer);
  const back = units => { const a = (units - left)/(width - left - right); return logx ? x0*(x1/x0)**a : x0 + (x1 - x0)*a; };
  return {node, layer, x, y, back, width, height, left, right, top, bottom};
}
export const line = (points, attributes) => svg('polyline', {points: points.map(p => p.map(v => v.toFixed(1)).join(',')).join(' '), ...attributes});

// A grey picture of side x side values between low and high.
export function picture(side, label, zoom = 4) {
  const node = el('canvas', {width: side, height: side, role: 'img', 'aria-label': label, class: 'w-picture', style: `width:${side*zoom}px`});
  const paint = (values, low, high) => {
    const context = node.getContext('2d'), image = context.createImageData(side, side);
    for (let i = 0; i < side*side; i++) {
      const grey = 255*Math.min(1, Math.max(0, (values[i] - low)/(high - low)));
      image.data.set([grey, grey, grey, 255], 4*i);
    }
    context.putImageData(image, 0, 0);
  };
  return {node, paint};
}
export const symmetric = values => { const m = Math.max(1e-12, ...Array.from(values, Math.abs)); return [-m, m]; };
export const figure = (caption, ...children) => el('figure', {}, ...children, el('figcaption', {}, caption));
export const data = name => new URL(`data/${name}`, import.meta.url);
