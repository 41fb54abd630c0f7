/** `evctl completion`: the scripts for the shells, and the candidates they ask for. */
import { candidates } from './completionCandidates.js';
import { type CommandContext, EXIT } from './context.js';
import { UsageError } from './options.js';

/** How long the shell may wait for names from eventd, ms. */
const NAMES_MS = 400;

/**
 * `completion bash|zsh` prints a script. `completion words INDEX -- WORDS...` is what the scripts call: the words
 * of the line as typed (evctl itself first, quotes removed), and which of them is to be completed. It prints one candidate
 * a line, each a whole word; the line `:files` says that file names fit.
 */
export async function runCompletion(context: CommandContext): Promise<void> {
  const { options, output, env } = context;
  const [what, index, ...others] = options.positionals;
  if (what === 'words' && index !== undefined && /^\d{1,4}$/.test(index)) {
    const found = await candidates(options.operands, Number(index), env, AbortSignal.timeout(NAMES_MS));
    await output.write(found.map((line) => `${line}\n`).join(''));
    return;
  }
  if ((what !== 'bash' && what !== 'zsh') || index !== undefined || others.length > 0)
    throw new UsageError('completion takes the name of a shell: bash or zsh');
  await output.write(what === 'bash' ? BASH : ZSH);
}

/**
 * A query is one quoted word, and bash closes the quote after the only candidate. So a lone candidate inside
 * quotes is doubled with a blank behind: what both begin with is filled in, and the quote stays open.
 */
const BASH = `# bash completion of evctl; . <(evctl completion bash)
_evctl() {
  local word=\${COMP_WORDS[COMP_CWORD]} quote= line
  local -a words=("\${COMP_WORDS[@]}") found=()
  case $word in
    \\'* | \\"*) quote=\${word:0:1}; words[COMP_CWORD]=\${word:1} ;;
  esac
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      compopt -o filenames 2> /dev/null
      while IFS= read -r line; do found+=("$line"); done < <(compgen -f -- "$word")
    else
      found+=("$line")
    fi
  done < <("\${COMP_WORDS[0]}" completion words "$COMP_CWORD" -- "\${words[@]}" 2> /dev/null)
  if [[ -n $quote && \${#found[@]} -eq 1 ]]; then
    found+=("\${found[0]} ")
  fi
  COMPREPLY=("\${found[@]}")
  [[ -n $quote ]] && compopt -o nospace 2> /dev/null
  return ${EXIT.done}
}
complete -F _evctl evctl
`;

const ZSH = `#compdef evctl
# zsh completion of evctl; evctl completion zsh > a file _evctl in $fpath
_evctl() {
  local line index=$((CURRENT - 1))
  local -a found typed
  typed=("\${(@Q)words}")
  typed[CURRENT]=\${(Q)PREFIX}
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      _files
    else
      found+=("$line")
    fi
  done < <("\${words[1]}" completion words $index -- "\${typed[@]}" 2> /dev/null)
  if (( \${#found} )); then
    if [[ -n $compstate[quote] || $typed[CURRENT] == *' '* ]]; then
      compadd -U -S '' -- "\${found[@]}"
    else
      compadd -- "\${found[@]}"
    fi
  fi
}
if [[ $funcstack[1] == _evctl ]]; then
  _evctl "$@"
else
  compdef _evctl evctl
fi
`;
