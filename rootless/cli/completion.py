# SPDX-License-Identifier: Apache-2.0
"""`rootless completion`: small scripts that let the shell ask `rootless __complete` for every word."""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.options import Option
    from rootless.paths import Paths

USAGE = "rootless completion bash|zsh|fish"
DESCRIPTION = """\
Print the completion script for a shell. Load it with
  bash:  rootless completion bash > ~/.local/share/bash-completion/completions/rootless
  zsh:   rootless completion zsh > ~/.zfunc/_rootless      (with ~/.zfunc in fpath)
  fish:  rootless completion fish > ~/.config/fish/completions/rootless.fish"""
ARGUMENTS = (1, 1)
COMPLETE = "bash zsh fish"
OPTIONS: tuple[Option, ...] = ()

_BASH = """\
# bash completion for rootless
_rootless() {
    local cur words cword line
    COMPREPLY=()
    # `:` and `=` do not divide words: references and flags contain them.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n := cur words cword
    else
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
    fi
    while IFS=$'\\t' read -r line _; do
        case $line in
            :file) compopt -o default 2>/dev/null; return ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <(rootless __complete -- "${words[@]:1:cword}" 2>/dev/null)
    [[ ${COMPREPLY-} == *= ]] && compopt -o nospace 2>/dev/null
    if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _rootless rootless
"""

_ZSH = """\
#compdef rootless
_rootless() {
    local -a found described
    local line word
    found=("${(@f)$(rootless __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in ${found:#}; do
        [[ $line == :file ]] && { _files; return }
        word=${line%%$'\\t'*}
        described+=("${word//:/\\\\:}${line[$(( $#word + 1 )),-1]/$'\\t'/:}")
    done
    _describe -V rootless described
}
if [ "$funcstack[1]" = _rootless ]; then _rootless; else compdef _rootless rootless; fi
"""

_FISH = """\
# fish completion for rootless
function __rootless_complete
    set -l words (commandline -opc)[2..] (commandline -ct)
    set -l found (rootless __complete -- $words 2>/dev/null)
    if contains -- :file $found
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c rootless -f -a '(__rootless_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(_options: dict[str, Any], arguments: list[str], _paths: Paths) -> int:
    """Print the script for the shell that is named."""
    if arguments[0] not in _SCRIPTS:
        raise UsageError(
            f"no completion for the shell {arguments[0]}", hint=f"choose {', '.join(_SCRIPTS)}"
        )
    print(_SCRIPTS[arguments[0]], end="")
    return 0
