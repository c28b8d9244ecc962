// Files of the state directory.
export { FilePortJournal } from './interface-loans.js';
export { instanceIn, type Loaded, replaceFile, type SavedNetwork, State, unusable } from './state.js';
