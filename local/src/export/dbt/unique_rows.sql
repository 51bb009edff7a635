{# {mark}. The command replaces this file when it runs again. #}
{% test unique_rows(model, columns) %}
select {{ columns | join(', ') }}
from {{ model }}
group by all
having count(*) > 1
{% endtest %}
