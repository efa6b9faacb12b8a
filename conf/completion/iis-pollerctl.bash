# bash completion for iis-pollerctl(8); made by 'iis-pollerctl completion bash'
_iis_pollerctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= words= i
	case "$prev" in
	-c|--config|-S|--socket)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		case "${COMP_WORDS[i]}" in
		-c|-S|-b|-o|--config|--socket|--bootstrap|--set)
			i=$((i + 1))
			;;
		-*) ;;
		*)
			verb=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	case "$verb" in
	'')
		words='push peek verify lag ping status workers endpoints tenants crashes jobs job config reload stop sources completion'
		;;
	push)
		words=' --type --path --pattern --set --recursive --priority --id --org --timeout --publish --metadata --count --topic --force --dry-run --wait'
		;;
	peek)
		words='jobs events results dlq --last --follow --job --from --partition --topic --raw --max --wait'
		;;
	verify)
		words=' --create-topics --partitions --replication --round-trip --wait'
		;;
	lag)
		words=' --daemon --wait'
		;;
	ping)
		words=''
		;;
	status)
		words=''
		;;
	workers)
		words=''
		;;
	endpoints)
		words=''
		;;
	tenants)
		words=''
		;;
	crashes)
		words=''
		;;
	jobs)
		words=' --state --deferred --limit'
		;;
	job)
		words='cancel'
		;;
	config)
		words=' --changed --local --defaults'
		;;
	reload)
		words=''
		;;
	stop)
		words=''
		;;
	sources)
		words=''
		words+=" $("${COMP_WORDS[0]}" sources --json 2>/dev/null |
			sed -n 's/^.*"type":"\([a-z0-9]*\)".*$/\1/p')"
		;;
	completion)
		words='bash'
		;;
	esac
	words+=' --config --socket --bootstrap --set --json --help --version'
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
	[[ $verb == push && $cur != -* ]] && COMPREPLY+=($(compgen -f -- "$cur"))
	return 0
}
complete -F _iis_pollerctl iis-pollerctl
