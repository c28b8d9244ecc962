// Commands that list: what their items have is known before anything is asked, so that a wrong --filter or --format is found then.
import type { Command } from 'commander';

const fields = new WeakMap<Command, readonly string[]>();

/** @param example the shape of an item; all have the same fields */
export function lists(command: Command, example: object): Command {
  fields.set(command, Object.keys(example));
  return command;
}

/** Of the items that the command lists; undefined for one that lists nothing. */
export const fieldsOf = (command: Command): readonly string[] | undefined => fields.get(command);
