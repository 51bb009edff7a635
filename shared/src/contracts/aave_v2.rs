//! Aave v2: the pool, its tokens, its configuration and its price oracle.

use alloy_sol_types::sol;

sol! {
    /// The pool's registry: the address by which a deployment is known.
    interface AddressesProvider {
        function getLendingPool() external view returns (address);
        function getPriceOracle() external view returns (address);
    }

    /// The pool. Users deposit, borrow and repay here.
    interface Pool {
        struct ReserveData {
            uint256 configuration;
            uint128 liquidityIndex;
            uint128 variableBorrowIndex;
            uint128 currentLiquidityRate;
            uint128 currentVariableBorrowRate;
            uint128 currentStableBorrowRate;
            uint40 lastUpdateTimestamp;
            address aTokenAddress;
            address stableDebtTokenAddress;
            address variableDebtTokenAddress;
            address interestRateStrategyAddress;
            uint8 id;
        }

        event Deposit(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed referral);
        event Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount);
        event Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint256 borrowRateMode, uint256 borrowRate, uint16 indexed referral);
        event Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount);
        event LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256 debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken);
        event ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user);
        event ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user);
        event ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256 variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex);

        function getReservesList() external view returns (address[]);
        function getReserveData(address asset) external view returns (ReserveData);
        function getReserveNormalizedIncome(address asset) external view returns (uint256);
        function getReserveNormalizedVariableDebt(address asset) external view returns (uint256);
        function getUserAccountData(address user) external view returns (uint256 totalCollateralETH, uint256 totalDebtETH, uint256 availableBorrowsETH, uint256 currentLiquidationThreshold, uint256 ltv, uint256 healthFactor);
    }

    /// The token of a supply. Its balances grow with the liquidity index.
    interface AToken {
        event Mint(address indexed from, uint256 value, uint256 index);
        event Burn(address indexed from, address indexed target, uint256 value, uint256 index);
        event BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index);

        function balanceOf(address user) external view returns (uint256);
        function scaledBalanceOf(address user) external view returns (uint256);
        function scaledTotalSupply() external view returns (uint256);
        function symbol() external view returns (string);
    }

    /// The token of debts at the variable rate.
    interface VariableDebtToken {
        event Mint(address indexed from, address indexed onBehalfOf, uint256 value, uint256 index);
        event Burn(address indexed user, uint256 amount, uint256 index);
    }

    /// The token of debts at a stable rate, which is each debtor's own.
    interface StableDebtToken {
        event Mint(address indexed user, address indexed onBehalfOf, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256 newRate, uint256 avgStableRate, uint256 newTotalSupply);
        event Burn(address indexed user, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256 avgStableRate, uint256 newTotalSupply);
        event Transfer(address indexed from, address indexed to, uint256 value);

        function principalBalanceOf(address user) external view returns (uint256);
        function balanceOf(address user) external view returns (uint256);
    }

    /// The price oracle: prices in wei of ETH for one whole token.
    interface PriceOracle {
        function getAssetPrice(address asset) external view returns (uint256);
    }
}
