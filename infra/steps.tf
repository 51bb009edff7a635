# The requirements of each step. CPU is proportional to memory: 1,769 MB correspond to one vCPU. `concurrency` is the
# number of concurrent calls of the step's map. Those of one phase add up to at most ten, the limit of a new account.
# Prefixes refer to the lake's bucket; one without a slash at its end is a single object, and `*` is the id of a run.
# `registers` are the tables and views that a step registers in the catalog, `looks_up` those that it only reads there. A function
# with `serves` belongs to no run: the state machine may not call it, and it neither plans nor writes.
locals {
  from_a_node = var.data_source == "chain"

  events    = ["transpose_borrow_events", "transpose_deposit_events", "transpose_liquidation_events", "transpose_repay_events", "transpose_withdraw_events"]
  markets   = "the_graph_historical_market_data"
  positions = "the_graph_historical_account_positions"
  current   = "the_graph_current_collateral_positions"

  prefixes = {
    blocks              = ["raw/transpose/ethereum_daily_blocks/"]
    logs                = ["raw/ethereum/ethereum_lending_logs/"]
    raw_events          = [for table in local.events : "raw/transpose/${table}/"]
    raw_markets         = ["raw/the_graph/${local.markets}/"]
    raw_positions       = ["raw/the_graph/${local.positions}/"]
    stage_events        = [for table in local.events : "stage/transpose/${table}/"]
    stage_borrows       = ["stage/transpose/transpose_borrow_events/"]
    stage_markets       = ["stage/the_graph/${local.markets}/"]
    stage_positions     = ["stage/the_graph/${local.positions}/"]
    priced_events       = [for table in local.events : "analytics/transpose/${table}/"]
    current             = ["analytics/the_graph/${local.current}/"]
    links               = ["analytics/features/wallet_links/"]
    links_state         = ["state/links/"]
    replay              = ["state/replay/"]
    health              = ["analytics/features/wallet_health_daily/"]
    fold                = ["state/fold/"]
    builds              = ["analytics/features/builds/"]
    checked             = ["analytics/features/checked/"]
    lost_logs           = ["state/lost/ethereum_lending_logs/"]
    lost_markets        = ["state/lost/${local.markets}/"]
    lost_positions      = ["state/lost/${local.positions}/"]
    features            = ["analytics/features/defi_features/"]
    passed              = ["state/passed/"]
    quarantine_events   = [for table in local.events : "quarantine/${table}/"]
    quarantine_markets  = ["quarantine/${local.markets}/"]
    quarantine_position = ["quarantine/${local.positions}/"]
    quarantine_current  = ["quarantine/${local.current}/"]
  }

  tables = {
    raw       = concat(["ethereum_daily_blocks", "ethereum_lending_logs", local.markets, local.positions], local.events)
    stage     = concat([local.markets, local.positions], local.events)
    analytics = concat([local.current, "wallet_links", "wallet_health_daily", "lending_events"], local.events)
  }
  # The tables by which readers find the published features.
  published = ["analytics/defi_features", "analytics/defi_features_history"]

  step_table = {
    plan-run = {
      memory  = 512
      timeout = 300
      # The newest markets and positions tell the schema that the lake keeps to.
      reads = concat(local.prefixes.raw_positions, local.prefixes.raw_markets)
      # The plans of a run, and the lists of calls that the state machine makes of the other steps.
      writes    = ["runs/*/plan.json", "runs/*/plan-after-extraction.json", "runs/*/batches/", "state/unfinished/", "state/first_day.json", "state/versions.json", "digests/before.json"]
      deletes   = ["runs/*/reports/", "runs/unfinished/", "state/unfinished/"]
      lists     = ["digests/"]
      registers = flatten([for layer, names in local.tables : [for name in names : "${layer}/${name}"]])
      looks_up  = local.published
      examples  = { from = "2023-02-20", as_of = "2023-03-01", force = true }
    }

    extract-daily-blocks = {
      concurrency = 1
      writes      = local.prefixes.blocks
      registers   = ["raw/ethereum_daily_blocks"]
      secrets     = local.from_a_node ? ["ethereum"] : ["transpose"]
    }
    extract-events = {
      memory      = 1024
      concurrency = 2
      reads       = local.prefixes.blocks
      writes      = local.prefixes.raw_events
      registers   = [for table in local.events : "raw/${table}"]
      secrets     = local.from_a_node ? [] : ["transpose"]
      examples    = { days = ["2023-02-28"], events = ["borrow", "repay"] }
    }
    # Only from a node.
    # The logs of a month before the first day of a run are in memory together.
    extract-logs = {
      memory      = 3008
      concurrency = 2
      reads       = local.prefixes.blocks
      writes      = concat(local.prefixes.logs, local.prefixes.lost_logs)
      deletes     = concat(local.prefixes.replay, local.prefixes.lost_logs)
      registers   = ["raw/ethereum_lending_logs"]
      secrets     = local.from_a_node ? ["ethereum"] : []
      shares_with = ["extract-market-data"]
      examples    = { days = ["2023-02-28"], protocols = ["aave-v2-eth"] }
    }
    # A day takes one request, which leaves most of the source's rate limit to the positions.
    extract-market-data = {
      concurrency = 1
      reads       = local.prefixes.blocks
      writes      = concat(local.prefixes.raw_markets, local.prefixes.lost_markets)
      deletes     = local.prefixes.lost_markets
      registers   = ["raw/${local.markets}"]
      secrets     = local.from_a_node ? ["ethereum"] : ["graph"]
      shares_with = [local.from_a_node ? "extract-logs" : "extract-account-positions"]
      examples    = { days = ["2023-02-28"], protocols = ["aave-v2-eth"] }
    }
    # One call per protocol: with more, each call would only get a smaller share of the rate limit.
    extract-account-positions = {
      memory      = 1769
      concurrency = 2
      reads       = local.prefixes.blocks
      writes      = concat(local.prefixes.raw_positions, local.prefixes.lost_positions)
      deletes     = local.prefixes.lost_positions
      registers   = ["raw/${local.positions}"]
      secrets     = local.from_a_node ? [] : ["graph"]
      shares_with = ["extract-market-data"]
      examples    = { days = ["2023-02-28"], protocols = ["aave-v2-eth"] }
    }
    extract-current-positions = {
      memory      = 1769
      concurrency = 2
      reads       = local.prefixes.blocks
      writes      = concat(local.prefixes.current, local.prefixes.quarantine_current)
      deletes     = local.prefixes.quarantine_current
      registers   = ["analytics/${local.current}"]
      # The time of a block is in the table of blocks.
      secrets  = local.from_a_node ? [] : ["graph", "transpose"]
      examples = { protocols = ["aave-v2-eth"], block = "head" }
    }

    stage-events = {
      memory      = 1769
      concurrency = 4
      reads       = concat(local.prefixes.raw_events, local.prefixes.logs, local.prefixes.raw_markets)
      writes      = concat(local.prefixes.stage_events, local.prefixes.quarantine_events)
      deletes     = local.prefixes.quarantine_events
      registers   = [for table in local.events : "stage/${table}"]
      examples    = { days = ["2023-02-28"], events = ["borrow", "repay"] }
    }
    stage-market-data = {
      concurrency = 2
      reads       = local.prefixes.raw_markets
      writes      = concat(local.prefixes.stage_markets, local.prefixes.quarantine_markets)
      deletes     = local.prefixes.quarantine_markets
      registers   = ["stage/${local.markets}"]
      examples    = { days = ["2023-02-28"], protocols = ["aave-v2-eth"] }
    }
    stage-account-positions = {
      memory      = 3008
      concurrency = 4
      reads       = concat(local.prefixes.raw_positions, local.prefixes.logs, local.prefixes.raw_markets, local.prefixes.blocks, local.prefixes.replay)
      writes      = concat(local.prefixes.stage_positions, local.prefixes.quarantine_position, local.prefixes.replay)
      deletes     = local.prefixes.quarantine_position
      registers   = ["stage/${local.positions}"]
      secrets     = local.from_a_node ? ["ethereum"] : [] # where a sum differs, balances are asked by call
      examples    = { days = ["2023-02-28"], protocols = ["aave-v2-eth"] }
    }

    # All calls update the same state of the links, so they can't run concurrently.
    link-wallets = {
      memory      = 1769
      concurrency = 1
      reads       = local.prefixes.stage_borrows
      writes      = concat(local.prefixes.links, local.prefixes.links_state)
      deletes     = concat(local.prefixes.links_state, local.prefixes.fold, local.prefixes.passed)
      registers   = ["analytics/wallet_links"]
    }
    price-events = {
      memory      = 1769
      concurrency = 4
      reads       = concat(local.prefixes.stage_events, local.prefixes.stage_markets)
      writes      = local.prefixes.priced_events
      deletes     = concat(local.prefixes.fold, local.prefixes.passed)
      registers   = [for table in local.events : "analytics/${table}"]
      examples    = { days = ["2023-02-28"], events = ["borrow", "repay"] }
    }
    value-positions = {
      memory      = 3008
      concurrency = 4
      reads       = concat(local.prefixes.stage_positions, local.prefixes.stage_markets, local.prefixes.links, local.prefixes.links_state)
      writes      = local.prefixes.health
      deletes     = concat(local.prefixes.fold, local.prefixes.passed)
      registers   = ["analytics/wallet_health_daily"]
    }
    build-features = {
      memory      = 3008
      concurrency = 4
      reads       = concat(local.prefixes.priced_events, local.prefixes.links, local.prefixes.health, ["state/"])
      writes      = concat(local.prefixes.builds, local.prefixes.fold)
      deletes     = local.prefixes.builds
      examples    = { as_of = "2023-03-01", shards = [0, 1] }
    }

    # The only step that records that a set passed its checks, without which nothing is published.
    check-features = {
      memory   = 3008
      reads    = ["raw/", "stage/", "analytics/", "state/fold/", "state/links/", "state/replay/", "quarantine/", "digests/before.json"]
      writes   = local.prefixes.passed
      deletes  = local.prefixes.passed
      lists    = ["digests/", "quarantine/"]
      looks_up = local.published
      examples = { from = "2023-02-20", as_of = "2023-03-01" }
    }
    # The only step that changes the published features and the tables that show them. Deletes old builds and states.
    publish-features = {
      memory    = 1024
      timeout   = 300
      reads     = local.prefixes.builds
      writes    = concat(local.prefixes.checked, local.prefixes.features)
      deletes   = concat(local.prefixes.builds, local.prefixes.checked, local.prefixes.features, local.prefixes.fold, local.prefixes.links_state, local.prefixes.replay)
      registers = local.published
      publishes = true
    }
    # chain.json is a single object. It exists only in a lake that was created by a local run over the simulated chain.
    report-run = {
      memory   = 3008
      reads    = ["stage/", "analytics/", "quarantine/", "chain.json"]
      lists    = ["quarantine/"]
      looks_up = local.published
      of_a_run = true
      examples = { run_id = "2023-03-01-0a1b2c3d4e5f" }
    }

    # No step of a run: it answers requests, and only reads. The catalog points to a checked copy while its day is published
    # again, and whether there is a build tells which set the record of the check is of.
    get-features = {
      memory   = 1769
      timeout  = 60
      reads    = concat(local.prefixes.features, local.prefixes.checked, local.prefixes.passed)
      lists    = local.prefixes.builds
      looks_up = local.published
      serves   = true
      examples = { wallets = ["0x7a250d5630b4cf539739df2c5dacb4c659f2488d"], features = ["risk_factor", "borrow_count"] }
    }
  }

  # The records of the objects that a step writes or deletes: digests/{key}.{digest}. No other step writes them.
  digests = {
    for name, step in local.step_table : name => {
      for what in ["writes", "deletes"] :
      what => [for prefix in try(step[what], []) : "digests/${prefix}" if can(regex("^(raw|stage|analytics|state/fold|state/links|state/replay)/", prefix))]
    }
  }

  steps = {
    for name, step in local.step_table : name => {
      memory            = try(coalesce(var.steps[name].memory), step.memory, 1024)
      timeout           = try(coalesce(var.steps[name].timeout), step.timeout, 900)
      ephemeral_storage = try(coalesce(var.steps[name].ephemeral_storage), step.ephemeral_storage, 512) # steps don't write to disk
      concurrency       = try(coalesce(var.steps[name].concurrency), step.concurrency, null)            # null: no map, one call per run
      reserved          = try(coalesce(var.steps[name].reserved_concurrency), null)
      serves            = try(step.serves, false)
      reads             = concat(try(step.reads, []), try(step.serves, false) ? [] : concat(["runs/", "state/unfinished/"], local.prefixes.passed)) # to plan what is missing
      writes            = concat(try(step.writes, []), local.digests[name].writes, try(step.serves, false) ? [] : ["runs/lease.json"], name == "plan-run" || try(step.serves, false) ? [] : ["runs/*/reports/${name}/"])
      deletes           = distinct(concat(try(step.deletes, []), local.digests[name].writes, local.digests[name].deletes))
      lists             = concat(try(step.serves, false) ? [] : ["raw/", "stage/", "analytics/", "state/"], local.digests[name].deletes, try(step.lists, []))
      registers         = try(step.registers, [])
      looks_up          = try(step.looks_up, [])
      publishes         = try(step.publishes, false)
      secrets           = try(step.secrets, [])
      shares_with       = try(step.shares_with, [])
      # By the name shown in the console.
      test_events = merge(
        { missing = {} },
        try(step.of_a_run, false) ? {} : { up_to_a_day = { as_of = "2023-11-01" } },
        try({ chosen = step.examples }, {}),
      )
    }
  }
}
