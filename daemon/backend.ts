// Backends by name, for the command line and the controller.
import { invalidArgument } from '../core/errors.js';
import { didYouMean } from './suggest.js';

/** flannel's backends that weft has no counterpart of (pkg/backend). */
const OTHERS = [
  'host-gw',
  'wireguard',
  'udp',
  'ipip',
  'ipsec',
  'extension',
  'alloc',
  'aws-vpc',
  'gce',
  'ali-vpc',
  'tencent-vpc',
];

/** One that there is; whether it is served the controller says. @throws WeftError INVALID_ARGUMENT */
export function parseBackend(text: string): string {
  if (text === 'vxlan' || OTHERS.includes(text)) return text;
  const hint = didYouMean(text, ['vxlan']);
  throw invalidArgument(`backend: "${text}" is not known`, hint === '' ? 'Give vxlan.' : hint);
}
