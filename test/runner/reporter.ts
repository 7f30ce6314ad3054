/** A reporter for node:test, which writes one line of JSON for each test; `report.ts` reads them. */
import { END, type Line } from './report.js';

/** The part of node:test's events that is read here. */
interface TestEvent {
  type: string;
  data: {
    name: string;
    nesting: number;
    skip?: boolean | string;
    todo?: boolean | string;
    details?: { type?: string };
  };
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const names: string[] = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') names[data.nesting] = data.name;
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    // A suite is no test; when its body or a hook fails, the exit status tells.
    if (data.details?.type === 'suite') continue;
    const name = [...names.slice(0, data.nesting), data.name].join(' > ');
    yield `${JSON.stringify(lineOf(name, type === 'test:pass', data))}\n`;
  }
  yield `${END}\n`;
}

function lineOf(name: string, passed: boolean, { skip, todo }: TestEvent['data']): Line {
  if (skip !== undefined && skip !== false) {
    return { name, verdict: 'skipped', reason: skip === true ? '' : skip };
  }
  if (todo !== undefined && todo !== false) {
    return { name, verdict: 'skipped', reason: `to do: ${todo === true ? '' : todo}` };
  }
  return { name, verdict: passed ? 'passed' : 'failed' };
}
