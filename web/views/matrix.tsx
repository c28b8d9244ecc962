// The matrix of paths on a canvas: a cell a path, chosen by pointer or arrow keys.
import { useEffect, useRef } from 'preact/hooks';

import { visible } from '../../core/text.js';
import { STATES, stateOf, type PathMatrix } from '../state/paths.js';

export interface Cell {
  from: number;
  to: number;
}

/** Pixels of the side of a cell. With many nodes the canvas scrolls, and only what is seen is drawn. */
const LARGEST = 26;
const SMALLEST = 3;
const SIDE = 720;
/** From this size on cells have marks and gaps, and from this one on rows and columns have names. */
const MARKED = 7;
const NAMED = 14;
const NAME_PIXELS = 110;
const NAME_LETTERS = 16;

/** From this round-trip time on a path is shown as slow, in milliseconds. */
export const SLOW_MS = 10;

/** Measured round-trip times in ms, by `FROM TO` in names. */
export type Times = ReadonlyMap<string, number>;

interface Shape {
  size: number;
  /** Of the names before rows and above columns. */
  margin: number;
}

function shapeOf(count: number): Shape {
  const size = Math.max(SMALLEST, Math.min(LARGEST, Math.floor(SIDE / Math.max(1, count))));
  return { size, margin: size >= NAMED ? NAME_PIXELS : 0 };
}

interface Drawn {
  matrix: PathMatrix;
  times: Times;
  chosen: Cell | undefined;
}

export function MatrixCanvas(props: Drawn & { onChoose: (cell: Cell) => void }) {
  const { matrix, times, chosen, onChoose } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const count = matrix.names.length;
  const shape = shapeOf(count);
  const { size, margin } = shape;
  const whole = margin + count * size;
  useEffect(() => {
    const scroller = box.current;
    if (scroller === null) return;
    let frame = 0;
    let cells: OffscreenCanvas | undefined;
    const plan = (): void => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        if (canvas.current === null) return;
        cells ??= paint(scroller, props);
        draw(canvas.current, scroller, cells, props, shape);
      });
    };
    const repaint = (): void => {
      cells = undefined;
      plan();
    };
    plan();
    scroller.addEventListener('scroll', plan, { passive: true });
    const look = matchMedia('(prefers-color-scheme: dark)');
    look.addEventListener('change', repaint);
    const resized = new ResizeObserver(plan);
    resized.observe(scroller);
    return () => {
      cancelAnimationFrame(frame);
      scroller.removeEventListener('scroll', plan);
      look.removeEventListener('change', repaint);
      resized.disconnect();
    };
  }, [matrix, times, chosen]);
  const cellAt = ({ clientX, clientY }: MouseEvent): Cell | undefined => {
    const place = box.current?.getBoundingClientRect();
    if (box.current === null || place === undefined) return undefined;
    const { scrollLeft, scrollTop, clientLeft, clientTop } = box.current;
    const to = Math.floor((clientX - place.left - clientLeft + scrollLeft - margin) / size);
    const from = Math.floor((clientY - place.top - clientTop + scrollTop - margin) / size);
    return from >= 0 && to >= 0 && from < count && to < count ? { from, to } : undefined;
  };
  const choose = (event: MouseEvent): void => {
    const cell = cellAt(event);
    if (cell !== undefined) onChoose(cell);
  };
  /** The names of what is pointed at. */
  const point = (event: MouseEvent): void => {
    const cell = cellAt(event);
    if (box.current === null) return;
    box.current.title = cell === undefined ? '' : describe(matrix, times, cell);
  };
  const move = (event: KeyboardEvent): void => {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const bounded = (value: number): number => Math.max(0, Math.min(count - 1, value));
    const { from, to } = chosen ?? { from: 0, to: 0 };
    const next =
      chosen === undefined ? { from, to } : { from: bounded(from + step[0]), to: bounded(to + step[1]) };
    onChoose(next);
    keepSeen(box.current, next, shape);
  };
  return (
    <div
      ref={box}
      class="matrix"
      tabIndex={0}
      role="application"
      aria-label={`Paths of ${count} nodes: rows send, columns receive, ${matrix.broken} broken. Arrow keys choose one.`}
      onClick={choose}
      onMouseMove={point}
      onKeyDown={move}
    >
      {/* The size of all cells, so that there is something to scroll. */}
      <svg width={whole} height={whole} aria-hidden="true" />
      <canvas ref={canvas} aria-hidden="true" />
    </div>
  );
}

const STEPS: Readonly<Record<string, readonly [from: number, to: number]>> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

function describe(matrix: PathMatrix, times: Times, { from, to }: Cell): string {
  const [a = '', b = ''] = [matrix.names[from], matrix.names[to]];
  const time = times.get(`${a} ${b}`);
  const state = stateOf(matrix, from, to);
  return visible(`${a} to ${b}: ${state}${time === undefined ? '' : `, ${time.toFixed(2)} ms`}`);
}

function keepSeen(box: HTMLElement | null, { from, to }: Cell, { size, margin }: Shape): void {
  if (box === null) return;
  const inside = (at: number, start: number, length: number): number =>
    at < start ? at : at + size > start + length ? at + size - length : start;
  box.scrollTop = inside(margin + from * size, box.scrollTop, box.clientHeight);
  box.scrollLeft = inside(margin + to * size, box.scrollLeft, box.clientWidth);
}

const colourOf = (box: HTMLElement, name: string): string => getComputedStyle(box).getPropertyValue(name);

/** Every cell as a pixel: what scrolls is this picture, and not a million cells. */
function paint(box: HTMLElement, { matrix, times }: Drawn): OffscreenCanvas {
  const count = Math.max(1, matrix.names.length);
  const canvas = new OffscreenCanvas(count, count);
  const context = canvas.getContext('2d');
  if (context === null) return canvas;
  const image = context.createImageData(count, count);
  const pixels = new Uint32Array(image.data.buffer);
  const pixelOf = (name: string): number => {
    context.fillStyle = colourOf(box, name);
    context.fillRect(0, 0, 1, 1);
    return new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer)[0] ?? 0;
  };
  const colours = STATES.map((state) => (state === 'none' ? 0 : pixelOf(`--${state}`)));
  matrix.cells.forEach((state, index) => (pixels[index] = colours[state] ?? 0));
  const slow = pixelOf('--slow');
  const places = new Map(matrix.names.map((name, index) => [name, index]));
  for (const [path, time] of times) {
    const [from, to] = path.split(' ').map((name) => places.get(name));
    if (time <= SLOW_MS || from === undefined || to === undefined) continue;
    if (stateOf(matrix, from, to) === 'ok') pixels[from * count + to] = slow;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function draw(
  canvas: HTMLCanvasElement,
  box: HTMLElement,
  cells: OffscreenCanvas,
  { matrix, chosen }: Drawn,
  { size, margin }: Shape,
): void {
  const context = canvas.getContext('2d');
  if (context === null) return;
  const { scrollLeft, scrollTop } = box;
  const count = matrix.names.length;
  const whole = margin + count * size;
  const [width, height] = [Math.min(box.clientWidth, whole), Math.min(box.clientHeight, whole)];
  const scale = devicePixelRatio;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(scale, scale);
  context.translate(-scrollLeft, -scrollTop);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, margin, margin, count * size, count * size);
  const first = (start: number): number => Math.max(0, Math.floor((start - margin) / size));
  const last = (start: number, length: number): number =>
    Math.min(count, Math.ceil((start + length - margin) / size));
  if (size >= MARKED) {
    context.fillStyle = colourOf(box, '--card');
    for (let at = 0; at <= count; at++) {
      context.fillRect(margin + at * size - 1, margin, 1, count * size);
      context.fillRect(margin, margin + at * size - 1, count * size, 1);
    }
    context.fillStyle = colourOf(box, '--on-cell');
    // A cross and a dash, for who does not see the colours.
    for (let from = first(scrollTop); from < last(scrollTop, height); from++)
      for (let to = first(scrollLeft); to < last(scrollLeft, width); to++) {
        const state = stateOf(matrix, from, to);
        const [x, y] = [margin + to * size, margin + from * size];
        if (state === 'broken') cross(context, x, y, size - 1);
        if (state === 'down') context.fillRect(x + size / 4, y + size / 2 - 1, size / 2, 1);
      }
  }
  if (margin > 0) name(context, box, matrix.names, { size, margin });
  if (chosen === undefined) return;
  context.strokeStyle = colourOf(box, '--focus');
  context.lineWidth = 3;
  context.strokeRect(margin + chosen.to * size - 1, margin + chosen.from * size - 1, size + 1, size + 1);
}

function name(
  context: CanvasRenderingContext2D,
  box: HTMLElement,
  names: readonly string[],
  { size, margin }: Shape,
): void {
  const { fontFamily } = getComputedStyle(box);
  context.font = `12px ${fontFamily}`;
  context.fillStyle = colourOf(box, '--text');
  context.textBaseline = 'middle';
  names.forEach((full, index) => {
    const shown = visible(full);
    const text = shown.length > NAME_LETTERS ? `${shown.slice(0, NAME_LETTERS - 1)}…` : shown;
    const centre = margin + index * size + size / 2;
    context.textAlign = 'right';
    context.fillText(text, margin - 8, centre, margin - 12);
    context.save();
    context.translate(centre, margin - 8);
    context.rotate(-Math.PI / 2);
    context.textAlign = 'left';
    context.fillText(text, 0, 0, margin - 12);
    context.restore();
  });
}

function cross(context: CanvasRenderingContext2D, x: number, y: number, size: number): void {
  const [near, far] = [size / 4, (size * 3) / 4];
  context.strokeStyle = context.fillStyle;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x + near, y + near);
  context.lineTo(x + far, y + far);
  context.moveTo(x + far, y + near);
  context.lineTo(x + near, y + far);
  context.stroke();
}
