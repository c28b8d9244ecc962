// Backends by name, for the command line and the controller.
import { BACKEND_TYPES, isBackend, UNSERVED_BACKENDS } from '../core/backends/types.js';
import { invalidArgument } from '../core/errors.js';
import { didYouMean } from './suggest.js';

/** One that there is; whether it is served the controller says. @throws WeftError INVALID_ARGUMENT */
export function parseBackend(text: string): string {
  if (isBackend(text) || UNSERVED_BACKENDS.includes(text)) return text;
  const hint = didYouMean(text, BACKEND_TYPES);
  throw invalidArgument(
    `backend: "${text}" is not known`,
    hint === '' ? `Give ${BACKEND_TYPES.join(' or ')}.` : hint,
  );
}
