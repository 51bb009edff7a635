-- {mark}. The command replaces this file when it runs again.
select * exclude (as_of)
from {{ source('{database}', 'defi_features_history') }}
where as_of = (select max(as_of) from {{ source('{database}', 'defi_features_history') }})
