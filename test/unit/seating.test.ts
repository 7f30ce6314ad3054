import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.js';
import { seatsOf } from '../../src/seats/assign.js';
import { type Facts, type GuestView, type OutputView, Seating } from '../../src/seats/seating.js';

const ACCOUNTS = { user: () => 0, group: () => 0 };
const SIZE = { width: 640, height: 480 };
const AREA = { x: 0, y: 0, ...SIZE };

function output(name: string, change: Partial<OutputView> = {}): OutputView {
  return { name, names: [name], udevSeat: 'seat0', lit: SIZE, shown: [], ...change };
}

function guest(name: string, request: string | null = null, change: Partial<GuestView> = {}): GuestView {
  return { name, machine: name, scanout: 0, request, whole: true, ...change };
}

/** Facts, and who is shown where by what the seating said of them before. */
function facts(text: string, outputs: OutputView[], guests: GuestView[], lessees: string[] = []): Facts {
  const config = parseConfig(text, 'f', ACCOUNTS);
  const udevSeats = outputs.map(({ udevSeat }) => udevSeat);
  return { config, seats: seatsOf(config, udevSeats), outputs, guests, lessees };
}

const SEAT = '[[seat]]\nname = "desk"\noutputs = ["DP-1"]\nguests = ["a", "b"]\n';
const currentOf = (seating: Seating, name: string) => seating.seat(name)?.current ?? null;

test('the first of the list that is there has the input, and the output', () => {
  const seating = new Seating();
  seating.update(facts(SEAT, [output('DP-1')], []));
  assert.equal(currentOf(seating, 'desk'), null);
  assert.equal(seating.outputFor('a', 0), 'DP-1');
  assert.equal(seating.outputFor('c', 0), null);
  seating.update(facts(SEAT, [output('DP-1')], [guest('b'), guest('a')]));
  assert.equal(currentOf(seating, 'desk'), 'a');
  assert.deepEqual(seating.placement('a'), { output: 'DP-1' });
  assert.deepEqual(seating.placement('b'), { hidden: 'seat desk shows a', floating: false });
  assert.equal(seating.placement('c'), null);
});

test('who is switched to is shown; who went and comes again has the input again', () => {
  const seating = new Seating();
  const both = facts(SEAT, [output('DP-1')], [guest('a'), guest('b')]);
  const onlyA = facts(SEAT, [output('DP-1')], [guest('a')]);
  seating.update(both);
  seating.switchTo('desk', 'b');
  seating.update(both);
  assert.equal(currentOf(seating, 'desk'), 'b');
  assert.deepEqual(seating.placement('b'), { output: 'DP-1' });
  assert.deepEqual(seating.placement('a'), { hidden: 'seat desk shows b', floating: false });
  seating.update(onlyA);
  assert.equal(currentOf(seating, 'desk'), 'a');
  assert.deepEqual(seating.placement('a'), { output: 'DP-1' });
  seating.update(both);
  assert.equal(currentOf(seating, 'desk'), 'b');
  // Whoever was switched to meanwhile keeps it.
  seating.update(onlyA);
  seating.switchTo('desk', 'a');
  seating.update(both);
  assert.equal(currentOf(seating, 'desk'), 'a');
});

test('guests with an area are seen beside the one that fills the output', () => {
  const seating = new Seating();
  seating.update(facts(SEAT, [output('DP-1')], [guest('a'), guest('b', null, { whole: false })]));
  assert.deepEqual(seating.placement('a'), { output: 'DP-1' });
  assert.deepEqual(seating.placement('b'), { output: 'DP-1' });
});

test('scanouts of a machine are on outputs of their own', () => {
  const seating = new Seating();
  const two = SEAT.replace('["DP-1"]', '["DP-1", "DP-2"]');
  const scanouts = [guest('a'), guest('a.1', null, { machine: 'a', scanout: 1 })];
  seating.update(facts(two, [output('DP-2'), output('DP-1')], [...scanouts, guest('b')]));
  assert.deepEqual(seating.placement('a'), { output: 'DP-1' });
  assert.deepEqual(seating.placement('a.1'), { output: 'DP-2' });
  assert.deepEqual(seating.placement('b'), { hidden: 'seat desk shows a', floating: false });
});

test('a seat whose output is not there hides its guests; dark ones are passed over', () => {
  const seating = new Seating();
  seating.update(facts(SEAT, [], [guest('a')]));
  assert.deepEqual(seating.placement('a'), { hidden: 'seat desk has no output', floating: false });
  const two = SEAT.replace('["DP-1"]', '["DP-1", "DP-2"]');
  seating.update(facts(two, [output('DP-1', { lit: null }), output('DP-2')], [guest('a')]));
  assert.deepEqual(seating.placement('a'), { output: 'DP-2' });
});

test("an assignment to an output elsewhere is not the seat's to say; the guest stays one of its own", () => {
  const seating = new Seating();
  seating.update(facts(SEAT, [output('DP-1'), output('DP-2')], [guest('a', 'DP-2')]));
  assert.equal(seating.placement('a'), null);
  assert.equal(currentOf(seating, 'desk'), 'a');
});

const IMPLIED = '[[seat]]\nname = "desk"\nudev_seat = "seat0"\n[[guest]]\nname = "b"\noutput = "DP-2"\n';

test('without a list, guests are those that the outputs show, configured ones first', () => {
  const seating = new Seating();
  const shown = [{ guest: 'x', area: AREA }];
  seating.update(facts(IMPLIED, [output('DP-1', { shown }), output('DP-2')], [guest('x')]));
  assert.deepEqual(seating.seat('desk')?.order, ['b', 'x']);
  assert.deepEqual([...(seating.seat('desk')?.present ?? [])], ['x']);
  assert.equal(currentOf(seating, 'desk'), 'x');
  assert.deepEqual(seating.placement('x'), { output: 'DP-1' });
  // It goes with its output.
  seating.update(facts(IMPLIED, [output('DP-2')], [guest('x')]));
  assert.equal(seating.placement('x'), null);
});

test('one that finds no output free waits at the first seat, and any free output will do for it', () => {
  const seating = new Seating();
  const one = [output('DP-1', { shown: [{ guest: 'x', area: AREA }] })];
  const guests = [guest('x'), guest('y')];
  const text = '[[input]]\nclass = "pad"';
  seating.update(facts(text, one, guests));
  assert.equal(seating.placement('y'), null);
  assert.equal(seating.join('y'), true);
  assert.equal(seating.join('x'), false);
  seating.update(facts(text, one, guests));
  assert.deepEqual(seating.seat('seat0')?.order, ['x', 'y']);
  assert.deepEqual(seating.placement('y'), { hidden: 'seat seat0 shows x', floating: true });
  seating.switchTo('seat0', 'y');
  seating.update(facts(text, one, guests));
  assert.deepEqual(seating.placement('y'), { output: 'DP-1' });
  assert.deepEqual(seating.placement('x'), { hidden: 'seat seat0 shows y', floating: true });
});

test('seats of udev have the outputs of their cards', () => {
  const seating = new Seating();
  seating.update(
    facts('[[input]]\nclass = "pad"', [output('DP-1'), output('DP-2', { udevSeat: 'seat-left' })], []),
  );
  const outputs = seating.seats().map(({ config, outputs: of }) => [config.name, of.map(({ name }) => name)]);
  assert.deepEqual(outputs, [
    ['seat0', ['DP-1']],
    ['seat-left', ['DP-2']],
  ]);
});

test("an excluded guest is no seat's, one that shows itself is there while it has its lease", () => {
  const seating = new Seating();
  const text = `${SEAT}[[guest]]\nname = "a"\ninput = "none"\n`;
  seating.update(facts(text, [output('DP-1')], [guest('a')], ['b']));
  assert.deepEqual(seating.seat('desk')?.order, ['b']);
  assert.equal(seating.placement('a'), null);
  assert.equal(currentOf(seating, 'desk'), 'b');
});
