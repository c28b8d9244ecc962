// WeftError: code, message, next step and cause.
import test from 'ava';

import * as errors from '../../core/errors.js';

test('each constructor sets its code, message, next step and cause', (t) => {
  const cause = new Error('EEXIST');
  const error = errors.alreadyExists('network blue: exists already', 'Choose another name.', { cause });
  t.true(error instanceof errors.WeftError);
  t.is(error.code, 'ALREADY_EXISTS');
  t.is(error.message, 'network blue: exists already');
  t.is(error.next, 'Choose another name.');
  t.is(error.cause, cause);
  t.is(errors.notFound('x').next, undefined);
  t.deepEqual(
    [
      errors.invalidArgument,
      errors.notFound,
      errors.failedPrecondition,
      errors.resourceExhausted,
      errors.unavailable,
    ].map((make) => make('x').code),
    ['INVALID_ARGUMENT', 'NOT_FOUND', 'FAILED_PRECONDITION', 'RESOURCE_EXHAUSTED', 'UNAVAILABLE'],
  );
});

test('any thrown value has a text, and the next step that it names', (t) => {
  t.is(errors.messageOf(new Error('boom')), 'boom');
  t.is(errors.messageOf('boom'), 'boom');
  t.is(errors.messageOf(undefined), 'undefined');
  t.is(errors.nextOf(new Error('boom')), undefined);
  t.is(errors.nextOf(errors.unavailable('boom', 'Duck.')), 'Duck.');
});

test('an error stays one line without control characters, whatever input it repeats', (t) => {
  const error = errors.invalidArgument(
    'name: "a\r\n  b\0\u001b[31m\u202e" is none',
    'Not \ud83d, nor\nthat.',
  );
  t.is(error.message, 'name: "a b\\u0000\\u001b[31m\\u202e" is none');
  t.is(error.next, 'Not \ufffd, nor that.');
});
