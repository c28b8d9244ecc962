// TARGETs, which name containers, and names of interfaces inside.
//
// The command line and the services use the same checks; the command line finds a wrong word before it contacts the agent.
import { invalidArgument } from './errors.js';
import { isLinkName, MAX_LINK_NAME } from './objects/index.js';
import { runTarget } from './run.js';

/** A parsed TARGET, not yet resolved. */
export interface TargetWords {
  /** A plain name is that of a Docker container, a namespace, or a container of weft's. */
  kind: 'netns' | 'pid' | 'docker' | 'run' | 'word';
  rest: string;
}

/** A target that says what it is. */
export const PREFIXED_TARGET = /^(?:netns|pid|docker|run):/;

const WORD = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** @throws WeftError INVALID_ARGUMENT */
export function parseTarget(text: string): TargetWords {
  const [, kind, rest = ''] = /^(netns|pid|docker|run):(.*)$/s.exec(text) ?? [];
  switch (kind) {
    case 'netns':
      if (rest.startsWith('/')) return { kind, rest };
      throw invalidArgument(`target: "${rest}" is not an absolute path`, 'Write netns:/run/netns/NAME.');
    case 'pid':
      if (/^[1-9]\d{0,9}$/.test(rest)) return { kind, rest };
      throw invalidArgument(`target: "${rest}" is not a process id`, 'Write pid:4711.');
    case 'docker':
    case 'run':
      if (WORD.test(rest)) return { kind, rest };
      throw invalidArgument(`target: "${rest}" is not a container's name or id`, `Write ${kind}:NAME.`);
    default:
      if (WORD.test(text)) return { kind: 'word', rest: text };
      throw invalidArgument(
        text === '' ? 'target: not given' : `target: "${text}" is not a target`,
        'Write netns:/PATH, pid:N, docker:NAME, run:NAME or a plain name.',
      );
  }
}

/** Where `ip netns add` puts namespaces (ip-netns(8)). */
export const NETNS_DIRECTORY = '/run/netns';

// /var/run is a link to /run on every host of weft, and both are in use.
export const normalNetns = (path: string): string => path.replace(/^\/var\/run\//, '/run/');

/**
 * The canonical texts of a target, without checking that it exists: to find the records of one that is absent. A bare word has
 * several.
 * @throws WeftError INVALID_ARGUMENT
 */
export function canonicalForms(text: string): string[] {
  const { kind, rest } = parseTarget(text);
  if (kind === 'word') return [`docker:${rest}`, `netns:${NETNS_DIRECTORY}/${rest}`, runTarget(rest)];
  return [`${kind}:${kind === 'netns' ? normalNetns(rest) : rest}`];
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseIfname(text: string): string {
  if (text.length > MAX_LINK_NAME) {
    throw invalidArgument(
      `ifname: "${text}" is too long (${text.length} characters)`,
      `Interface names have at most ${MAX_LINK_NAME} characters.`,
    );
  }
  if (!isLinkName(text) || text === 'lo') {
    throw invalidArgument(
      `ifname: "${text}" is not an interface name`,
      'Use a name such as eth0: no spaces, no / : or %.',
    );
  }
  return text;
}
