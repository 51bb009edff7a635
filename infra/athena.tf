module "athena_results" {
  source = "./modules/bucket"

  name          = "${local.bucket}-athena"
  force_destroy = var.force_destroy
  kms_key_arn   = var.kms_key_arn
  policy        = local.bucket_policies.athena
  expire_days   = { for prefix in concat(["results/"], var.feast ? local.feast_prefixes : []) : prefix => var.keep_days.results }
}

resource "aws_athena_workgroup" "analysts" {
  name          = local.name
  description   = "Queries on the lake of ${local.environment}"
  force_destroy = var.force_destroy

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_gb * 1024 * 1024 * 1024

    result_configuration {
      output_location = "s3://${module.athena_results.name}/results/"

      encryption_configuration {
        encryption_option = var.kms_key_arn == null ? "SSE_S3" : "SSE_KMS"
        kms_key_arn       = var.kms_key_arn
      }
    }
  }
}

locals {
  # Each query filters by partition columns (year, month, as_of), which are strings.
  named_queries = {
    riskiest-wallets = {
      description = "The wallets closest to liquidation, with their collateral."
      sql         = <<-SQL
        SELECT wallet_address, risk_factor, total_collateral_eth, total_available_borrows_eth, liquidation_count
        FROM db_analytics_${local.environment}.defi_features
        WHERE risk_factor > 1e0 / 1.2
        ORDER BY risk_factor DESC, total_collateral_eth DESC
        LIMIT 100
      SQL
    }
    features-of-a-wallet = {
      description = "The features of a wallet on every published day. Insert the wallet's address."
      sql         = <<-SQL
        SELECT as_of, risk_factor, total_collateral_eth, borrow_amount_sum_eth, repay_amount_sum_eth, liquidation_count
        FROM db_analytics_${local.environment}.defi_features_history
        WHERE wallet_address = lower('0x…')
        ORDER BY as_of
      SQL
    }
    published-days = {
      description = "The number of wallets and the mean of some features, by published day."
      sql         = <<-SQL
        SELECT as_of, count(*) AS wallets, avg(risk_factor) AS risk_factor, avg(total_collateral_eth) AS total_collateral_eth,
               sum(borrow_count) AS borrows, sum(liquidation_count) AS liquidations
        FROM db_analytics_${local.environment}.defi_features_history
        GROUP BY as_of
        ORDER BY as_of DESC
      SQL
    }
    unpriced-borrows = {
      description = "The borrows of this month without a price, by token. Their amounts are missing from the sums."
      sql         = <<-SQL
        SELECT protocol, token_address, count(*) AS events, count_if(quantity_eth IS NULL) AS unpriced
        FROM db_analytics_${local.environment}.transpose_borrow_events
        WHERE year = date_format(current_date, '%Y') AND month = date_format(current_date, '%m')
        GROUP BY protocol, token_address
        HAVING count_if(quantity_eth IS NULL) > 0
        ORDER BY unpriced DESC
      SQL
    }
    liquidations-by-day = {
      description = "The liquidations of this year by day and protocol, with the seized collateral."
      sql         = <<-SQL
        SELECT date("timestamp") AS day, protocol, count(*) AS liquidations, count(DISTINCT account_address) AS accounts,
               sum(quantity_eth) AS quantity_eth
        FROM db_analytics_${local.environment}.transpose_liquidation_events
        WHERE year = date_format(current_date, '%Y')
        GROUP BY date("timestamp"), protocol
        ORDER BY day DESC, protocol
      SQL
    }
    accounts-of-a-wallet = {
      description = "The accounts for which a wallet borrowed, and since when. Insert the wallet's address."
      sql         = <<-SQL
        SELECT account_address, min(since) AS since
        FROM db_analytics_${local.environment}.wallet_links
        WHERE wallet_address = lower('0x…')
        GROUP BY account_address
        ORDER BY since
      SQL
    }
  }
}

resource "aws_athena_named_query" "example" {
  for_each = local.named_queries

  name        = each.key
  description = each.value.description
  workgroup   = aws_athena_workgroup.analysts.id
  database    = aws_glue_catalog_database.layer["analytics"].name
  query       = each.value.sql
}
